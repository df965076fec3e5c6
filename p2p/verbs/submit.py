"""submit: give the cluster a training job, and wait for it if asked."""

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from collectives.codec_names import help_text
from p2p import task_files
from p2p.errors import Usage
from p2p.replicated.job_states import FINAL
from p2p.training.method import AUTO
from p2p.training.strategies.catalog import STRATEGIES
from p2p.verbs.verb import Verb, add_common, asks, pairs, print_json, say
from p2p.view import job_contract, job_progress

if TYPE_CHECKING:
    from p2p.client import Client

WAIT_EVERY_S = 0.5


async def submit(client: "Client", args: argparse.Namespace) -> int:
    request = job_request(args)
    if client.address.startswith(("127.", "localhost")):
        known = await client.request("data") if "data_name" in request else {"datasets": []}
        # A registered dataset is checked by every peer, whoever has a copy.
        if request.get("data_name") not in [told["name"] for told in known["datasets"]]:
            check_task(args.task, request.get("data"))
    answer = await client.request("submit", **request)
    job = answer["job"]
    if not args.wait:
        if args.json:
            print_json({"job": job})
        else:
            print(job)
            say(f"submitted: `p2pnode job {job}` shows it")
        return 0
    try:
        return await wait_for(client, job, args.json)
    except asyncio.CancelledError:  # Ctrl-C
        say(f"the job goes on: `p2pnode job {job}` shows it, `p2pnode cancel {job}` ends it")
        raise


async def wait_for(client: "Client", job: str, as_json: bool) -> int:
    """Follow a job to its end, one line per change; 0 only if it finished."""
    client.timeout_s = max(client.timeout_s, 30.0)  # an election may fall in between
    last: tuple[Any, ...] = ()
    while True:
        told = await client.request("job", job=job)
        now = (told["state"], told["step"], told["generation"], told["reason"])
        if now != last:
            last = now
            final = told["state"] in FINAL
            if as_json:
                print_json(job_contract(told) if final else job_progress(told))
            else:
                print(progress_line(told), flush=True)
            if final:
                return 0 if told["state"] == "finished" else 1
        await asyncio.sleep(WAIT_EVERY_S)


def progress_line(told: dict[str, Any]) -> str:
    parts = [f"{told['name']} {told['state']}", f"step {told['step']}/{told['steps_total'] or '?'}"]
    if told["loss"] is not None:
        parts.append(f"loss {told['loss']:.4f}")
    if "accuracy" in told["metrics"]:
        parts.append(f"accuracy {told['metrics']['accuracy']:.4f}")
    if told["members"]:
        parts.append(f"{len(told['members'])} peers, {told['samples_per_second']:.0f} samples/s")
    if told["reason"]:
        parts.append(told["reason"])
    if told["state"] == "finished":
        parts.append(told["state_hash"])
    return " · ".join(parts)


def job_request(args: argparse.Namespace) -> dict[str, Any]:
    """The request's arguments. Raises Usage for a task file or a flag that cannot be."""
    request: dict[str, Any] = {
        "task": args.task,
        **task_files.travelling(args.task, Path()),
        "global_batch": args.global_batch,
        "epochs": args.epochs,
        "steps": args.steps,
        "shards": args.shards,
        "lr": args.lr,
        "seed": args.seed,
        "strategy": args.strategy,
        "codec": args.codec,
        "checkpoint_every": args.checkpoint_every,
        "keep_checkpoints": args.keep_checkpoints,
        "allow_nondeterminism": args.allow_nondeterminism or None,
        "data": str(Path(args.data).expanduser().absolute()) if args.data else None,
        "data_name": args.data if args.data and "/" not in args.data else None,
        "options": pairs(args.set),
        "name": args.name,
        "priority": args.priority or None,
        **peers_range(args.peers),
    }
    return {name: value for name, value in request.items() if value is not None}


def check_task(task: str, data: str | None) -> None:
    """Say at once what the trainers of this host would say. Raises Usage."""
    if ":" not in task:
        from p2p.tasks import builtin

        builtin.check(task, data)


def peers_range(text: str | None) -> dict[str, int]:
    if text is None:
        return {}
    least, colon, most = text.partition(":")
    if not least.isdigit() or (colon and not most.isdigit()):
        raise Usage(f"--peers {text}: expected MIN:MAX, or one number for both")
    return {"peers_min": int(least), "peers_max": int(most if colon else least)}


def int64(text: str) -> int:
    """A whole number that a message can carry."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid int value: {text!r}") from None
    if not -(2**63) <= number < 2**63:
        raise argparse.ArgumentTypeError(f"{text} does not fit into 64 bits")
    return number


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="a built-in task, or FILE.py:Class")
    parser.add_argument("--peers", metavar="MIN:MAX", help="how many peers it needs and may use")
    parser.add_argument(
        "--priority", metavar="N", type=int64, help="before jobs of a lower one (0)"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", metavar="N", type=int64)
    length.add_argument("--steps", metavar="N", type=int64)
    parser.add_argument("--global-batch", metavar="N", type=int64, help="samples per step")
    parser.add_argument("--shards", metavar="V", type=int64, help="slices of each batch (12)")
    parser.add_argument("--lr", metavar="X", type=float)
    parser.add_argument("--seed", metavar="N", type=int64)
    parser.add_argument(
        "--strategy", metavar="S", help=f"how trainers exchange: {', '.join([*STRATEGIES, AUTO])}"
    )
    parser.add_argument("--codec", metavar="C", help=f"how gradients travel: {help_text()}")
    parser.add_argument(
        "--data",
        metavar="NAME|PATH",
        help="a registered dataset, or where the data lies on the peers",
    )
    parser.add_argument("--checkpoint-every", metavar="STEPS", type=int64)
    parser.add_argument(
        "--keep-checkpoints", metavar="N", type=int64, help="how many of the newest (3)"
    )
    parser.add_argument(
        *("--allow-nondeterminism",),
        action="store_true",
        help="go on where the task gives other bits on another peer",
    )
    parser.add_argument("--set", metavar="key=value", action="append", default=[])
    parser.add_argument("--name", metavar="N")
    parser.add_argument("--wait", action="store_true", help="follow it to its end")
    add_common(parser)


VERBS = (Verb("submit", "give the cluster a training job", _arguments, asks(submit)),)
