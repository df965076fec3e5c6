"""data: datasets that the cluster knows by name: register, list, preview, shards, drop."""

import argparse
import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2p.errors import P2PError, Unreachable, Usage
from p2p.verbs.pictures import picture
from p2p.verbs.verb import (
    Action,
    Verb,
    act,
    add_actions,
    asks,
    megabytes,
    print_json,
    say,
    table,
)

if TYPE_CHECKING:
    from p2p.client import Client

BUILTINS = ("digits", "textgpt")
FORMATS = ("idx", "npz", "safetensors", "images", "text", "files")
ASK_EVERY_S = 0.1
ASK_EVERY_MAX_S = 2.0
LIMIT_DEFAULT = 4
PATH_BYTES_MAX = 4_096


async def register(client: "Client", args: argparse.Namespace) -> int:
    """The peer that is asked reads the path on its machine."""
    from p2p.replicated.apply_data import problem_with_name

    problem = problem_with_name(args.name)
    if problem:
        raise Usage(problem)
    where = _where(args.path)
    told = await _found(client, "data_scan", where=where, format=args.format)
    fields = {**told["found"], "name": args.name, "where": where, "peer": told["peer"]}
    answer = await client.request("data_register", dataset=fields)
    if args.json:
        print_json({**answer, "dataset": {name: fields[name] for name in _TOLD}})
    else:
        print(args.name)
        count = "" if fields["samples"] is None else f"{fields['samples']} samples, "
        size = f"{fields['files']} files, {megabytes(fields['bytes'])}"
        say(f"registered as {fields['format']}: {count}{size}, {answer['content']}")
    return 0


_TOLD = ("format", "samples", "bytes", "files", "schema")


async def list_(client: "Client", args: argparse.Namespace) -> int:
    answer = await client.request("data")
    if args.json:
        print_json(answer)
        return 0
    if not answer["datasets"]:
        print("no datasets: `p2pnode data register NAME PATH` makes one known")
        return 0
    rows = [
        [
            told["name"],
            told["format"],
            "-" if told["samples"] is None else str(told["samples"]),
            megabytes(told["bytes"]),
            str(told["files"]),
            told["here"],
            told["content"].removeprefix("sha256:")[:12],
            told["path"],
        ]
        for told in answer["datasets"]
    ]
    headings = ["DATASET", "FORMAT", "SAMPLES", "SIZE", "FILES", "HERE", "CONTENT", "PATH"]
    print(table(headings, rows))
    return 0


async def preview(client: "Client", args: argparse.Namespace) -> int:
    """Of the peer that is asked, or else of the one that registered it."""
    known = (await client.request("data"))["datasets"]
    dataset = next((told for told in known if told["name"] == args.name), None)
    if dataset is None:
        names = ", ".join(told["name"] for told in known) or "none"
        raise Usage(f"there is no dataset {args.name!r}: there are {names}")
    request = {"name": args.name, "limit": args.limit}
    try:
        told = await _found(client, "data_preview", **request)
    except P2PError:
        if dataset["here"] == "verified" or dataset["address"] is None:
            raise
        told = await _elsewhere(client, dataset["address"], request)
    rows = told["found"]["rows"]
    if args.json:
        print_json({"name": args.name, "format": dataset["format"], "rows": rows})
        return 0
    for row in rows:
        print(_row_text(row))
    return 0


async def _elsewhere(client: "Client", address: str, request: dict[str, Any]) -> dict[str, Any]:
    from p2p.client import Client

    other = Client([address], client.key, timeout_s=client.timeout_s)
    try:
        return await _found(other, "data_preview", **request)
    except Unreachable as error:
        raise Unreachable(f"no peer that is reachable has a copy: {error}") from error
    finally:
        await other.close()


async def shards(client: "Client", args: argparse.Namespace) -> int:
    answer = await client.request("data_shards", job=args.job)
    if args.json:
        print_json(answer)
        return 0
    first, last = answer["samples"]
    print(
        f"{answer['job']} {answer['state']}, generation {answer['generation']}: step "
        f"{answer['step']} of epoch {answer['epoch']} has samples {first} to {last - 1} of "
        f"{answer['train_samples']}, in the epoch's order"
    )
    rows = [
        [
            str(row["name"] or row["peer"]),
            _range(row["shards"]),
            _range(row["samples"]),
            str(row["samples"][1] - row["samples"][0]),
        ]
        for row in answer["peers"]
    ]
    print(table(["PEER", "SHARDS", "SAMPLES", "COUNT"], rows))
    return 0


async def drop(client: "Client", args: argparse.Namespace) -> int:
    answer = await client.request("data_drop", name=args.name)
    if args.json:
        print_json(answer)
    else:
        say(f"dropped {args.name}; what peers had fetched of it goes, their own copies stay")
    return 0


async def _found(client: "Client", verb: str, **request: Any) -> dict[str, Any]:
    """Ask until a child of the peer has read what is asked for."""
    wait_s = ASK_EVERY_S
    while True:
        answer: dict[str, Any] = await client.request(verb, **request)
        if answer["found"] is not None:
            return answer
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 1.5, ASK_EVERY_MAX_S)


def _where(text: str) -> str:
    """An existing path wins over a built-in's name only when it is written as one (./digits)."""
    if text in BUILTINS:
        return f"builtin:{text}"
    path = str(Path(text).expanduser().absolute())
    if "\0" in path or len(path.encode(errors="surrogateescape")) > PATH_BYTES_MAX:
        raise Usage("that is no path")
    return path


def _range(ends: list[int]) -> str:
    first, last = ends
    return f"{first} to {last - 1}" if last > first else "none"


def _row_text(row: dict[str, Any]) -> str:
    where = row.get("file") or f"{row['split']}[{row['index']}]"
    plain, pictures = [], []
    for name, value in row["fields"].items():
        drawn = picture(value)
        if drawn is None:
            plain.append(f"{name} {str(value)[:200]}")
        else:
            pictures.append(drawn)
    return "\n".join([" · ".join([where, *plain]), *pictures])


def _limit(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 1_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000")
    return int(text)


def _registers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what jobs call it")
    built_in = " or ".join(BUILTINS)
    parser.add_argument(
        "path", metavar="PATH|BUILTIN", help=f"file or folder on the peer's machine; {built_in}"
    )
    parser.add_argument("--format", choices=FORMATS, help="default: by the names of the files")


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")


def _previewed(parser: argparse.ArgumentParser) -> None:
    _named(parser)
    parser.add_argument(
        "--limit", metavar="N", type=_limit, default=LIMIT_DEFAULT, help="samples (4)"
    )


def _sharded(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="id or name")


_ACTIONS = (
    Action("register", "make a dataset known to the cluster", _registers, register),
    Action("list", "the datasets", lambda parser: None, list_),
    Action("preview", "the first samples of one", _previewed, preview),
    Action("shards", "which samples of its step each peer of a job has", _sharded, shards),
    Action("drop", "forget one that no job uses", _named, drop),
)
_arguments = partial(add_actions, actions=_ACTIONS)
VERBS = (Verb("data", "datasets that jobs may name", _arguments, asks(act)),)
