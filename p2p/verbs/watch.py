"""Verbs that judge: alerts, health, insights."""

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from p2p.errors import Unhealthy, Usage
from p2p.verbs.verb import Verb, add_common, asks, print_json, say, show, table

if TYPE_CHECKING:
    from p2p.client import Client

UNHEALTHY_BELOW = 50
Answer = dict[str, Any]


async def alerts(client: "Client", args: argparse.Namespace) -> int:
    if args.acknowledge is not None:
        return await _acknowledge(client, args)
    wanted: Callable[[Answer], Answer] = dict if args.all else _firing
    return await show(client, args, "alerts", lambda told: _alerts_text(wanted(told)), wanted)


def _firing(answer: Answer) -> Answer:
    """Without those that are over."""
    firing = [told for told in answer["alerts"] if told["resolved_at"] is None]
    return {**answer, "alerts": firing}


async def _acknowledge(client: "Client", args: argparse.Namespace) -> int:
    """By its id or a unique beginning of it."""
    firing = [told["id"] for told in _firing(await client.request("alerts"))["alerts"]]
    wanted = args.acknowledge
    found = [id_ for id_ in firing if id_ == wanted] or [
        id_ for id_ in firing if id_.startswith(wanted)
    ]
    if len(found) != 1:
        problem = "is not unique" if found else "does not fire"
        raise Usage(f"{wanted!r} {problem}: there are {', '.join(firing) or 'none'}")
    answer = await client.request("alert.acknowledge", alert=found[0])
    if args.json:
        print_json(answer)
    else:
        say(f"{found[0]} is acknowledged until it is over")
    return 0


def _alerts_text(answer: Answer) -> str:
    if not answer["alerts"]:
        return "no alert"
    rows = [
        [
            alert["severity"] if alert["resolved_at"] is None else "over",
            time.strftime("%H:%M:%S", time.localtime(alert["since"])),
            "yes" if alert["acknowledged"] else "-",
            alert["id"],
            alert["text"],
        ]
        for alert in answer["alerts"]
    ]
    return table(["SEVERITY", "SINCE", "SEEN", "ALERT", "WHAT"], rows)


async def health(client: "Client", args: argparse.Namespace) -> int:
    """Raises Unhealthy with --check where the score is low."""
    answer = await client.request("health")
    if args.json:
        print_json(answer)
    else:
        print(_health_text(answer), flush=True)
    score = answer["cluster"]["score"]
    if args.check and score < UNHEALTHY_BELOW:
        raise Unhealthy(f"the cluster's health is {score} of 100: `p2pnode alerts` says why")
    (agreement,) = [part for part in answer["cluster"]["parts"] if part["name"] == "agreement"]
    if args.check and not agreement["points"]:
        raise Unhealthy(agreement["why"])
    return 0


def _health_text(answer: dict[str, Any]) -> str:
    cluster = answer["cluster"]
    parts = [
        [part["name"], f"{part['points']}/{part['of']}", part["why"]] for part in cluster["parts"]
    ]
    peers = [[peer["name"], str(peer["score"]), _worst(peer["parts"])] for peer in answer["peers"]]
    return "\n\n".join(
        [
            f"health {cluster['score']} of 100",
            table(["PART", "POINTS", "WHY"], parts),
            table(["PEER", "HEALTH", "WHY"], peers),
        ]
    )


def _worst(parts: list[dict[str, Any]]) -> str:
    """Why most points were lost."""
    lost = max(parts, key=lambda part: float(part["of"] - part["points"]))
    return str(lost["why"]) if lost["points"] < lost["of"] else "-"


async def insights(client: "Client", args: argparse.Namespace) -> int:
    return await show(client, args, "insights", _insights_text)


def _insights_text(answer: dict[str, Any]) -> str:
    said = [f"{told['text']}\n    {told['command']}" for told in answer["insights"]]
    parts = ["\n".join(said) if said else "nothing to say: all is as it should be"]
    for job in answer["scaling"]:
        rows = [
            [
                str(speed["trainers"]),
                f"{speed['samples_per_second']:.0f}",
                f"{speed['efficiency']:.0%}",
            ]
            for speed in job["speeds"]
        ]
        parts.append(f"{job['name']}\n{table(['TRAINERS', 'SAMPLES/S', 'EFFICIENCY'], rows)}")
    return "\n\n".join(parts)


def _alerts_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="those of the last hour, too")
    parser.add_argument("--acknowledge", metavar="ALERT", help="say that somebody has seen it")
    add_common(parser, watch=True)


def _health_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        *("--check",),
        action="store_true",
        help=f"exit 6 if it is below {UNHEALTHY_BELOW}, or without a quorum",
    )
    add_common(parser)


VERBS = (
    Verb("alerts", "what is wrong now", _alerts_arguments, asks(alerts)),
    Verb("health", "how well the cluster is, 0 to 100, and why", _health_arguments, asks(health)),
    Verb("insights", "what would help, and what was measured", add_common, asks(insights)),
)
