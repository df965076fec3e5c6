"""Verbs that show: status, peers, jobs, job, events."""

import argparse
import asyncio
import time
from typing import TYPE_CHECKING, Any

from p2p.replicated.state import SEVERITIES
from p2p.verbs.checkpoints import checkpoints_table
from p2p.verbs.verb import (
    WATCH_EVERY_S,
    Verb,
    add_common,
    asks,
    megabytes,
    print_json,
    show,
    table,
)
from p2p.view import job_contract

if TYPE_CHECKING:
    from p2p.client import Client


async def status(client: "Client", args: argparse.Namespace) -> int:
    return await show(client, args, "status", status_text)


async def peers(client: "Client", args: argparse.Namespace) -> int:
    return await show(client, args, "peers", _peers_text)


async def jobs(client: "Client", args: argparse.Namespace) -> int:
    return await show(client, args, "jobs", _jobs_text)


async def job(client: "Client", args: argparse.Namespace) -> int:
    as_json = dict if args.detail else job_contract
    return await show(client, args, "job", _job_text, as_json, job=args.job)


async def events(client: "Client", args: argparse.Namespace) -> int:
    since = 0
    named = {"peer": args.for_peer, "job": args.job, "text": args.text}
    wanted = {"level": args.level, **named}
    while True:
        answer = await client.request("events", since=since, **wanted)
        if args.json:
            if answer["events"] or not args.watch:
                print_json(answer)
        else:
            for event in answer["events"]:
                at = time.strftime("%H:%M:%S", time.localtime(event["at"]))
                print(f"{at} {event['severity']:<7} {event['text']}", flush=True)
        if not args.watch:
            return 0
        since = max((event["index"] for event in answer["events"]), default=since)
        await asyncio.sleep(WATCH_EVERY_S)


def status_text(answer: dict[str, Any]) -> str:
    cluster = answer["cluster"]
    names = {peer["id"]: peer["name"] for peer in answer["peers"]}
    leader = names.get(cluster["leader"], "none")
    quorum = "" if cluster["quorum"] else "  NO QUORUM: a majority of the voters must be reachable"
    head = (
        f"{cluster['name']} ({cluster['id']})  leader {leader}, term {cluster['term']}, "
        f"seen from {names.get(answer['view_from'], '?')} {answer['age']:.1f} s ago{quorum}"
    )
    return "\n\n".join([head, _peers_text(answer), _jobs_text(answer)])


def _peers_text(answer: dict[str, Any]) -> str:
    """With a column more where replicas answer, and where it is said what trainers compute on."""
    serves = any(peer["replicas"] for peer in answer["peers"])
    has_devices = all("gpus" in peer for peer in answer["peers"])
    rows = [
        [
            peer["name"],
            peer["state"],
            peer["role"],
            peer["address"],
            f"{peer['trainers']}/{peer['slots']}",
            *([str(peer["replicas"])] if serves else []),
            megabytes(peer["rss"]),
            f"{peer['cpu_percent']:.0f}%",
            *([_gpus_text(peer)] if has_devices else []),
            peer["id"],
        ]
        for peer in sorted(answer["peers"], key=lambda peer: (peer["name"], peer["id"]))
    ]
    head = ["PEER", "STATE", "ROLE", "ADDRESS", "TRAINERS"]
    head += [*(["REPLICAS"] if serves else []), "RSS", "CPU"]
    return table([*head, *(["GPU"] if has_devices else []), "ID"], rows)


def _gpus_text(peer: dict[str, Any]) -> str:
    """How many, how busy, how full; and if trainers do not compute on them."""
    gpus = peer["gpus"]
    if not gpus:
        return "no GPU"
    busy = [gpu["utilization"] for gpu in gpus if gpu["utilization"] is not None]
    used = megabytes(sum(gpu["memory_used"] for gpu in gpus))
    parts = [f"{len(gpus)} x {gpus[0]['name']}"] if len(gpus) > 1 else [gpus[0]["name"]]
    parts += [f"{sum(busy) / len(busy):.0f}%"] if busy else []
    unused = [] if peer["device"] == "cuda" else ["(trains on the CPU)"]
    return " ".join([*parts, used, *unused])


def _jobs_text(answer: dict[str, Any]) -> str:
    if not answer["jobs"]:
        return "no jobs: `p2pnode submit digits` starts one"
    return table(
        ["JOB", "NAME", "STATE", "STEP", "EPOCH", "LOSS", "ACCURACY", "SAMPLES/S", "PEERS", "WHY"],
        [_job_row(told) for told in sorted(answer["jobs"], key=_by_age)],
    )


def _by_age(told: dict[str, Any]) -> tuple[int, str]:
    """job-2 before job-10, as people count; JSON stays sorted by id."""
    return len(told["id"]), told["id"]


def _job_row(told: dict[str, Any]) -> list[str]:
    accuracy = told["metrics"].get("accuracy")
    return [
        told["id"],
        told["name"],
        told["state"],
        f"{told['step']}/{told['steps_total'] or '?'}",
        str(told["epoch"]),
        "-" if told["loss"] is None else f"{told['loss']:.4f}",
        "-" if accuracy is None else f"{accuracy:.4f}",
        f"{told['samples_per_second']:.0f}",
        str(len(told["members"])),
        told["reason"],
    ]


def _job_text(told: dict[str, Any]) -> str:
    parts = [_jobs_text({"jobs": [told]}), f"state hash {told['state_hash']}"]
    if told["compression"]:
        sent = f"a trainer sends {megabytes(told['bytes_per_step'])} per step"
        parts.append(f"{sent}, {told['compression']:.1f} times less than float32")
    parts += [notice["text"] for notice in told["notices"]]
    if told["generations"]:
        rows = [
            [
                str(made["number"]),
                str(len(made["members"])),
                "-" if made["start_step"] is None else str(made["start_step"]),
                "-" if made["stall_seconds"] is None else f"{made['stall_seconds']:.3f} s",
                str(made["steps_repeated"]),
                f"{made['strategy']} {made['codec']}",
                made["reason"],
            ]
            for made in told["generations"]
        ]
        headings = ["GENERATION", "PEERS", "FROM STEP", "STALL", "REPEATED", "METHOD", "WHY"]
        parts.append(table(headings, rows))
    if told["ledger"]:
        names = ["epoch", "samples", "distinct", "repeated", "missing"]
        ledger = [[str(row[name]) for name in names] for row in told["ledger"]]
        parts.append(table([name.upper() for name in names], ledger))
    if told["checkpoints"]:
        parts.append(checkpoints_table(told["checkpoints"]))
    return "\n\n".join(parts)


def _watchable(parser: argparse.ArgumentParser) -> None:
    add_common(parser, watch=True)


def _events(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--level", choices=SEVERITIES, default="info", help="at least so severe")
    parser.add_argument("--for-peer", metavar="PEER", help="about this peer: id, name or address")
    parser.add_argument("--job", metavar="JOB", help="about this job: id or name")
    parser.add_argument("--text", metavar="TEXT", help="with this in it, or of this kind")
    add_common(parser, watch=True)


def _one_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="id or name")
    parser.add_argument(
        *("--detail",),
        action="store_true",
        help="with --json: notices, who is set aside, methods, parts of checkpoints, … as well",
    )
    add_common(parser, watch=True)


VERBS = (
    Verb("status", "the cluster, its peers and its jobs", _watchable, asks(status)),
    Verb("peers", "the peers", _watchable, asks(peers)),
    Verb("jobs", "the jobs", _watchable, asks(jobs)),
    Verb("job", "one job: generations, stalls, ledger, checkpoints", _one_job, asks(job)),
    Verb("events", "what happened", _events, asks(events)),
)
