"""Verb export: what was measured, and what happened, for other tools: JSON, CSV, TensorBoard."""

import argparse
import csv
import io
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2p.errors import P2PError, Usage
from p2p.storage.disk import write_output
from p2p.verbs import event_files
from p2p.verbs.verb import Action, Verb, act, add_actions, asks, say

if TYPE_CHECKING:
    from p2p.client import Client

POINT = ("at", "min", "max", "mean", "last")
EVENT = ("index", "at", "kind", "severity", "peer", "job", "text")
_AGO_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def parse_since(text: str | None, now_s: float) -> float | None:
    """Unix seconds of a time: themselves, ISO 8601, or how long ago (90s, 10m, 6h, 2d).

    Raises Usage.
    """
    if text is None:
        return None
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if ago:
        return now_s - float(ago[1]) * _AGO_S[ago[2]]
    if re.fullmatch(r"\d+(?:\.\d+)?", text.strip()):
        return float(text)
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError) as error:
        raise Usage(
            f"--since {text!r} is no time: give seconds since 1970, 2026-01-31T12:00, or 10m ago "
            "as 10m"
        ) from error


async def _events(client: "Client", args: argparse.Namespace) -> int:
    since = parse_since(args.since, time.time())
    told = (await client.request("events", since=0))["events"]
    events = [event for event in told if since is None or event["at"] >= since]
    _write(args, {"schema": 1, "events": events}, _event_rows(events))
    return 0


async def _metrics(client: "Client", args: argparse.Namespace) -> int:
    """Of one peer, or of all that live; one that does not answer is said on stderr."""
    since = parse_since(args.since, time.time())
    peers = (await client.request("status"))["peers"]
    if args.for_peer:
        wanted = [args.for_peer]
    else:
        wanted = [peer["id"] for peer in peers if peer["state"] == "alive"]
    series: list[dict[str, Any]] = []
    for peer in wanted:
        try:
            series += [told async for told in _series(client, peer, args, since)]
        except P2PError as error:
            if args.for_peer or len(wanted) == 1:
                raise
            say(f"p2pnode: without {peer}: {error}")
    _write(args, {"schema": 1, "series": series}, _metric_rows(series))
    return 0


async def _series(
    client: "Client", peer: str, args: argparse.Namespace, since: float | None
) -> AsyncIterator[dict[str, Any]]:
    """One after the other: an answer has as many as are good for the peer."""
    names: list[str] = args.names or ["*"]
    while names:
        told = await client.request(
            "metrics", peer=peer, names=names, since=since, resolution=args.resolution
        )
        for name, one in told["series"].items():
            points = [
                dict(zip(POINT, [round(at, 3), *map(_seven_digits, values)], strict=True))
                for at, *values in one["points"]
            ]
            head = {"peer": told["peer"], "name": name, "unit": one["unit"]}
            yield {**head, "resolution": told["resolution"], "points": points}
        names = told["left_off"][:64] if told["series"] else []


def _seven_digits(value: float) -> float:
    """A float32 as it was meant: 0.1, not 0.10000000149."""
    return float(f"{value:.7g}")


def _metric_rows(series: list[dict[str, Any]]) -> Iterator[list[Any]]:
    yield ["at", "peer", "name", "unit", *POINT[1:]]
    for one in series:
        for point in one["points"]:
            values = [point[column] for column in POINT[1:]]
            yield [point["at"], one["peer"], one["name"], one["unit"], *values]


def _event_rows(events: list[dict[str, Any]]) -> Iterator[list[Any]]:
    yield list(EVENT)
    for event in events:
        yield [event[column] for column in EVENT]


def _csv(rows: Iterator[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write(args: argparse.Namespace, found: dict[str, Any], rows: Iterator[list[Any]]) -> None:
    """To a file, which is there whole or not at all, or to stdout. Raises P2PError."""
    text = _csv(rows) if args.format == "csv" else json.dumps(found) + "\n"
    if args.output in (None, "-"):
        sys.stdout.write(text)
        return
    path = Path(args.output)
    try:
        write_output(path, [text.encode()])
    except OSError as error:
        raise P2PError(f"cannot write {path}: {error.strerror}") from error


def _written(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=["json", "csv"], default="json")
    parser.add_argument(
        "--since", metavar="T", help="seconds since 1970, an ISO 8601 time, or how long ago: 10m"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="instead of stdout")


def _measured(parser: argparse.ArgumentParser) -> None:
    _written(parser)
    parser.add_argument("--for-peer", metavar="PEER", help="of this peer only")
    parser.add_argument(
        "--names", metavar="GLOB", nargs="+", help="of these names only, as 'job.*.loss'"
    )
    event_files.add_resolution(parser)


_ACTIONS = (
    Action("metrics", "what was measured, as JSON or CSV", _measured, _metrics),
    Action("events", "what happened, as JSON or CSV", _written, _events),
    Action(
        *("tensorboard", "a job's metrics for TensorBoard"),
        *(event_files.add_arguments, event_files.export),
    ),
)
_arguments = partial(add_actions, actions=_ACTIONS)
VERBS = (Verb("export", "what was measured or happened, for other tools", _arguments, asks(act)),)
