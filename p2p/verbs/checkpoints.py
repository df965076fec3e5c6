"""Verbs about checkpoints: checkpoints, checkpoint, restore, export-model."""

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2p.checkpoints.model_export import Unreadable, model_of, told_parts, write_model
from p2p.errors import P2PError
from p2p.replicated.job_states import FINAL
from p2p.verbs.submit import int64, peers_range, wait_for
from p2p.verbs.verb import Verb, add_common, asks, megabytes, print_json, say, table

if TYPE_CHECKING:
    from p2p.client import Client

CHECKPOINT_TIMEOUT_S = 60.0
ASK_EVERY_S = 0.1
RESTORE = (
    "Submit a new job that goes on from a checkpoint: the same task, data and settings, on as many "
    "peers as there are. The job that made the checkpoint stays as it is."
)


async def _checkpoints(client: "Client", args: argparse.Namespace) -> int:
    told = await client.request("job", job=args.job)
    if args.json:
        print_json({"job": told["id"], "checkpoints": told["checkpoints"]})
    else:
        print(checkpoints_table(told["checkpoints"]) if told["checkpoints"] else "none yet")
    return 0


def checkpoints_table(checkpoints: list[dict[str, Any]]) -> str:
    rows = [
        [
            str(made["step"]),
            megabytes(made["bytes"]),
            f"{made['seconds']:.2f} s",
            f"{made['count']} on {len({part['peer'] for part in made['parts']})} peers",
            made["path"],
        ]
        for made in checkpoints
    ]
    return table(["CHECKPOINT", "SIZE", "TOOK", "PARTS", "PATH"], rows)


async def _checkpoint(client: "Client", args: argparse.Namespace) -> int:
    """Returns when it is agreed that all of it is on disk."""
    before = await client.request("job", job=args.job)
    known = {made["step"] for made in before["checkpoints"]}
    seen = max((e["index"] for e in (await client.request("events"))["events"]), default=0)
    asked = await client.request("checkpoint", job=args.job)
    deadline_s = asyncio.get_running_loop().time() + CHECKPOINT_TIMEOUT_S
    while True:
        told = await client.request("job", job=asked["job"])
        made = told["checkpoints"][-1] if told["checkpoints"] else None
        # A job that stands still may have a checkpoint of where it stands.
        still = told["state"] != "running" and made is not None and made["step"] >= before["step"]
        if made is not None and (made["step"] not in known or still):
            break
        for event in (await client.request("events", since=seen))["events"]:
            if event["kind"] == "checkpoint-failed" and event["job"] == asked["job"]:
                raise P2PError(event["text"])
        if told["state"] in FINAL:
            raise P2PError(f"{told['name']} {told['state']} before it could be saved")
        if asyncio.get_running_loop().time() > deadline_s:
            raise P2PError(
                f"{told['name']} was not saved within {CHECKPOINT_TIMEOUT_S:g} s; it is "
                f"{told['state']}: {told['reason'] or 'see `p2pnode events`'}"
            )
        await asyncio.sleep(ASK_EVERY_S)
    if args.json:
        print_json({"job": told["id"], "checkpoint": made})
    else:
        say(f"{told['name']}: checkpoint of step {made['step']} in {made['path']}")
    return 0


async def _restore(client: "Client", args: argparse.Namespace) -> int:
    wishes = {
        "step": args.step,
        "name": args.name,
        "epochs": args.epochs,
        "steps": args.steps,
        **peers_range(args.peers),
    }
    given = {name: value for name, value in wishes.items() if value is not None}
    job = (await client.request("restore", job=args.job, **given))["job"]
    if args.wait:
        return await wait_for(client, job, args.json)
    if args.json:
        print_json({"job": job})
    else:
        print(job)
        say(f"submitted: `p2pnode job {job}` shows it")
    return 0


async def _export(client: "Client", args: argparse.Namespace) -> int:
    told = await client.request("job", job=args.job)
    found = [made for made in told["checkpoints"] if args.step in (None, made["step"])]
    if not found:
        known = ", ".join(str(made["step"]) for made in told["checkpoints"]) or "none"
        which = "" if args.step is None else f" of step {args.step}"
        raise P2PError(f"{told['name']} has no checkpoint{which}: there are {known}")
    made = found[-1]
    names = {peer["id"]: peer["name"] for peer in (await client.request("peers"))["peers"]}
    copies = list(told_parts(made).values())
    head, data = await _model(client, told, made, copies, names)
    path = Path(args.output).expanduser()
    write_model(path, head, data)
    size = len(head) + len(data)
    if args.json:
        print_json({"job": told["id"], "step": made["step"], "path": str(path), "bytes": size})
    else:
        say(f"{path}: the model of {told['name']} after step {made['step']}, {megabytes(size)}")
    return 0


async def _model(
    client: "Client",
    told: dict[str, Any],
    made: dict[str, Any],
    copies: list[list[Any]],
    names: dict[str, str],
) -> tuple[bytes, bytes]:
    """From whichever copies are as they were written. Raises P2PError."""
    turn = [0] * len(copies)  # by part, which copy
    at = 0  # the part that is being read

    async def read(number: int, offset: int, count: int) -> bytes:
        nonlocal at
        at = number
        answer = await client.request(
            "checkpoint_read",
            peer=copies[number][turn[number]]["peer"],
            job=told["id"],
            step=made["step"],
            number=number,
            offset=offset,
            count=count,
        )
        return bytes(answer["data"])

    while True:
        chosen = [part[number] for part, number in zip(copies, turn, strict=True)]
        try:
            return await model_of(read, [part["digest"] for part in chosen])
        except P2PError as error:
            turn[at] += 1
            if turn[at] == len(copies[at]):
                where = ", ".join(names.get(part["peer"], part["peer"]) for part in copies[at])
                kind = Unreadable if isinstance(error, Unreadable) else type(error)
                raise kind(
                    f"part {at + 1} of the checkpoint of step {made['step']} cannot be had from "
                    f"{where}: {error}"
                ) from error


def _one_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="id or name")
    add_common(parser)


def _restored(parser: argparse.ArgumentParser) -> None:
    parser.description = RESTORE
    parser.add_argument("job", metavar="JOB", help="id or name of the job that made the checkpoint")
    parser.add_argument("--step", metavar="N", type=int64, help="the checkpoint's (the newest)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", metavar="N", type=int64, help="up to which it trains, in all")
    length.add_argument("--steps", metavar="N", type=int64, help="up to which it trains, in all")
    parser.add_argument("--peers", metavar="MIN:MAX", help="how many peers it needs and may use")
    parser.add_argument("--name", metavar="N")
    parser.add_argument("--wait", action="store_true", help="follow it to its end")
    add_common(parser)


def _exported(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write parameters and buffers under the model's own names, as "
        "`model.load_state_dict(safetensors.torch.load_file(FILE))` takes them."
    )
    parser.add_argument("job", metavar="JOB", help="id or name")
    parser.add_argument("--step", metavar="N", type=int64, help="the checkpoint's (the newest)")
    parser.add_argument("-o", "--output", metavar="FILE", required=True)
    add_common(parser)


VERBS = (
    Verb("checkpoints", "the checkpoints of a job", _one_job, asks(_checkpoints)),
    Verb("checkpoint", "save a job now, while it goes on", _one_job, asks(_checkpoint)),
    Verb("restore", "a new job from a checkpoint of another", _restored, asks(_restore)),
    Verb("export-model", "a job's model as a file for plain PyTorch", _exported, asks(_export)),
)
