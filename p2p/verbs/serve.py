"""Verbs about served models: serve, unserve, models."""

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2p import task_files
from p2p.errors import Usage
from p2p.replicated.service import DEVICES, FOLDER, JOB
from p2p.verbs.verb import Verb, add_common, asks, megabytes, pairs, print_json, say, table

if TYPE_CHECKING:
    from p2p.client import Client

SCAN_EVERY_S = 0.05


async def serve(client: "Client", args: argparse.Namespace) -> int:
    if is_job(args):
        request = job_request(args)
    else:
        request = {**_request(args), **await _files(client, args)}
    answer = await client.request("serve", **request)
    if args.json:
        print_json(answer)
    else:
        print(answer["job"])
        say(f"`p2pnode prompt {answer['name']}` asks it, `p2pnode models` shows where it is")
    return 0


def is_job(args: argparse.Namespace) -> bool:
    """Is it a job's model? Then nothing has to be read before it can be asked for."""
    return bool(args.model.startswith(JOB))


def job_request(args: argparse.Namespace) -> dict[str, Any]:
    """Raises Usage."""
    if args.task or args.set:
        raise Usage("--task and --set are for files: a job has its own")
    return _request(args)


def _request(args: argparse.Namespace) -> dict[str, Any]:
    bounds = replicas_range(args.replicas)
    request = {"model": args.model, "name": args.name, "device": args.device, **bounds}
    return {name: value for name, value in request.items() if value is not None}


async def _files(client: "Client", args: argparse.Namespace) -> dict[str, Any]:
    """The weights at a path of the asked peer's machine, and their task."""
    whole = args.model.startswith(FOLDER)
    where = str(Path(args.model.removeprefix(FOLDER)).expanduser().absolute())
    while True:
        told = await client.request("model_scan", where=where, whole=whole)
        if told["found"] is not None:
            break
        await asyncio.sleep(SCAN_EVERY_S)
    request = {"model": FOLDER * whole + where, "found": told["found"], "peer": told["peer"]}
    if not args.task:
        return request
    job = {
        "task": args.task,
        **task_files.travelling(args.task, Path()),
        "options": pairs(args.set),
    }
    return {**request, "job": {name: value for name, value in job.items() if value is not None}}


async def unserve(client: "Client", args: argparse.Namespace) -> int:
    answer = await client.request("unserve", model=args.model)
    if args.json:
        print_json(answer)
    else:
        say(f"{answer['name']} is served no more")
    return 0


async def models(client: "Client", args: argparse.Namespace) -> int:
    answer = await client.request("models")
    if args.json:
        print_json(answer)
    else:
        print(models_text(answer))
    return 0


def models_text(answer: dict[str, Any]) -> str:
    if not answer["models"]:
        return "no models: `p2pnode serve job:JOB` serves what a job trained"
    heads = ["MODEL", "ID", "STATE", "REPLICAS", "ON", "STEP", "PARAMETERS", "SIZE", "FROM", "WHY"]
    return table(heads, [_row(told) for told in answer["models"]])


def _row(told: dict[str, Any]) -> list[str]:
    model = told["model"]
    return [
        told["name"],
        told["id"],
        told["state"],
        f"{len(told['replicas'])} of {told['target']}",
        ", ".join(replica["peer_name"] for replica in told["replicas"]) or "-",
        str(told["step"]),
        f"{model['parameters']:,}" if model else "-",
        megabytes(model["bytes"]) if model else "-",
        told["source"],
        told["reason"],
    ]


def replicas_range(text: str | None) -> dict[str, int]:
    if text is None:
        return {}
    least, colon, most = text.partition(":")
    if not least.isdecimal() or (colon and not most.isdecimal()):
        raise Usage(f"--replicas {text}: expected MIN:MAX, or one number for both")
    return {"replicas_min": int(least), "replicas_max": int(most if colon else least)}


def _serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="job:JOB[@STEP], FILE.safetensors, a checkpoint folder, hf:FOLDER",
    )
    parser.add_argument("--task", metavar="TASK", help="of a file: a built-in, or FILE.py:Class")
    parser.add_argument("--set", metavar="key=value", action="append", default=[])
    parser.add_argument("--name", metavar="N", help="what prompts call it (the job's name)")
    parser.add_argument("--replicas", metavar="MIN:MAX", help="how many peers answer (1:1)")
    parser.add_argument("--device", choices=DEVICES, help="what it computes on (auto)")
    add_common(parser)


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="id or name")
    add_common(parser)


VERBS = (
    Verb("serve", "let peers answer prompts with a trained model", _serve, asks(serve)),
    Verb("unserve", "let a model go", _named, asks(unserve)),
    Verb("models", "the models that are served, and where", add_common, asks(models)),
)
