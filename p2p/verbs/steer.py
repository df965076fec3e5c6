"""Verbs that steer: pause, resume, cancel, set, add, remove, transfer, fault."""

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from collectives.codec_names import NAMES
from p2p.errors import P2PError
from p2p.training.method import ALLOW, AUTO
from p2p.training.strategies.catalog import STRATEGIES
from p2p.verbs.verb import Verb, add_common, asks, pairs, print_json, say
from p2p.wire.drills import DRILL_KINDS, FAULT_KINDS

if TYPE_CHECKING:
    from p2p.client import Client

TRANSFER_TIMEOUT_S = 5.0
DRILLS = (
    "A drill, on peers started with --allow-faults. partition: the named peers on one side, all "
    "others on the other; delay: what the named peers send and get is 0 to 0.4 s late; drop: 30 % "
    "of it is lost; heal: ends these three. They concern what peers say to each other about the "
    "cluster; clients still reach every peer, and trainers still exchange gradients. corrupt: one "
    "bit of the peer's log on disk flips, which its next start finds."
)
ADD_TIMEOUT_S = 20.0


async def _job_verb(client: "Client", args: argparse.Namespace) -> int:
    answer = await client.request(args.verb, job=args.job)
    _tell(args, answer, f"{answer['job']} is {answer['state']}")
    return 0


async def _set(client: "Client", args: argparse.Namespace) -> int:
    changes = pairs(args.changes)
    answer = await client.request("set", job=args.job, changes=changes)
    what = ", ".join(f"{name}={text}" for name, text in changes.items())
    _tell(args, answer, f"{answer['job']} goes on with {what} after the step it is at")
    return 0


async def _add(client: "Client", args: argparse.Namespace) -> int:
    before = {peer["id"] for peer in (await client.request("peers"))["peers"]}
    await client.request("add", count=args.count)
    deadline_s = asyncio.get_running_loop().time() + ADD_TIMEOUT_S
    while True:
        found = (await client.request("peers"))["peers"]
        new = [peer for peer in found if peer["id"] not in before]
        if len(new) >= args.count:
            names = ", ".join(f"{peer['name']} at {peer['address']}" for peer in new)
            _tell(args, {"peers": new}, f"joined: {names}")
            return 0
        if asyncio.get_running_loop().time() > deadline_s:
            raise P2PError(
                f"{len(new)} of {args.count} new peers joined within {ADD_TIMEOUT_S:g} s: "
                "see added/*.log in the asked peer's data directory"
            )
        await asyncio.sleep(0.1)


async def _remove(client: "Client", args: argparse.Namespace) -> int:
    answer = await client.request("remove", peer=args.peer_name)
    _tell(args, answer, f"{args.peer_name} was removed: its shards and vote move to the others")
    return 0


async def _transfer(client: "Client", args: argparse.Namespace) -> int:
    wanted = (await client.request("transfer", peer=args.peer_name))["leader"]
    deadline_s = asyncio.get_running_loop().time() + TRANSFER_TIMEOUT_S
    while (await client.request("status"))["cluster"]["leader"] != wanted:
        if asyncio.get_running_loop().time() > deadline_s:
            raise P2PError(f"{args.peer_name} did not take over within {TRANSFER_TIMEOUT_S:g} s")
        await asyncio.sleep(0.05)
    _tell(args, {"leader": wanted}, f"{args.peer_name} leads")
    return 0


async def _fault(client: "Client", args: argparse.Namespace) -> int:
    """What would be refused at one of several peers is done at none of them."""

    async def ask(name: str, **more: bool) -> dict[str, Any]:
        told = {"kind": args.kind, "for_s": args.for_s, "side": args.peers}
        return await client.request("fault", peer=name, **told, **more)

    if len(args.peers) > 1:
        for name in args.peers:
            await ask(name, only_check=True)
    if args.kind in DRILL_KINDS:  # together, before those on one side can agree on nothing more
        answers = await asyncio.gather(*map(ask, args.peers))
    else:
        answers = [await ask(name) for name in args.peers]
    for name, answer in zip(args.peers, answers, strict=True):
        _tell(args, answer, f"{args.kind} {name}: done")
    return 0


def _tell(args: argparse.Namespace, answer: dict[str, Any], text: str) -> None:
    if args.json:
        print_json(answer)
    else:
        say(text)


def _one_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="id or name")
    add_common(parser)


def _settings(parser: argparse.ArgumentParser) -> None:
    lines = [
        "How a job's trainers exchange, from the next step on: strategy=NAME, codec=NAME, or an",
        "option of the strategy.",
        "",
    ]
    told = [(entry.name, entry.summary, entry.options) for entry in STRATEGIES.values()]
    told.append((AUTO, "strategy and codec chosen by measuring", (ALLOW,)))
    for name, summary, options in told:
        lines.append(f"strategy={name}: {summary}")
        for option in options:
            choices = f", one of {', '.join(option.choices)}" if option.choices else ""
            lines.append(f"    {option.name}={option.default}: {option.summary}{choices}")
    lines += [f"codec={named.name}: {named.summary}" for named in NAMES.values()]
    parser.description = "\n".join(lines)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("job", metavar="JOB", help="id or name")
    parser.add_argument("changes", metavar="key=value", nargs="+")
    add_common(parser)


def _one_peer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer_name", metavar="PEER", help="id, name or address")
    add_common(parser)


def _count(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("count", metavar="N", nargs="?", type=int, default=1)
    add_common(parser)


def _drill(parser: argparse.ArgumentParser) -> None:
    parser.description = DRILLS
    parser.add_argument("kind", choices=FAULT_KINDS)
    parser.add_argument("peers", metavar="PEER", nargs="+", help="id, name or address")
    parser.add_argument(
        "--for",
        dest="for_s",
        metavar="S",
        type=float,
        help="seconds (pause: 5; partition, delay, drop: until heal)",
    )
    add_common(parser)


VERBS = (
    Verb("pause", "hold a job after its last applied step", _one_job, asks(_job_verb)),
    Verb("resume", "let a paused job go on", _one_job, asks(_job_verb)),
    Verb("cancel", "end a job", _one_job, asks(_job_verb)),
    Verb("set", "change how a job's trainers exchange", _settings, asks(_set)),
    Verb("add", "start more peers on the asked peer's host", _count, asks(_add)),
    Verb("remove", "drain a peer and forget it for good", _one_peer, asks(_remove)),
    Verb("transfer", "move leadership to a peer", _one_peer, asks(_transfer)),
    Verb("fault", "a drill, on peers started with --allow-faults", _drill, asks(_fault)),
)
