"""demo: scenarios on a small cluster of this host: what was promised, shown and checked."""

import argparse
import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from p2p.errors import Usage
from p2p.scenarios.catalog import ALL, DEFAULT, NAMES
from p2p.verbs.verb import Verb, print_json, say

if TYPE_CHECKING:
    from p2p.scenarios.news import Tell
    from p2p.scenarios.scenario import Scenario

ENDING = (signal.SIGTERM, signal.SIGHUP)


def run(args: argparse.Namespace) -> int:
    scenarios = chosen(args)
    if _has_screen(args):
        return _on_screen(args)
    from p2p.scenarios import report
    from p2p.scenarios.play import Player

    # Ended by a signal or a closed terminal, the demo still takes its peers and folder with it.
    for number in ENDING:
        signal.signal(number, _end)
    paths = report.files(args.report) if args.report else []
    with _listener(args) as tell:
        made = asyncio.run(Player(tell).play_all(scenarios))
    report.write(made, paths)
    if args.json:
        print_json(made)
    else:
        print(report.summary(made), flush=True)
    return 0 if made["ok"] else 1


def chosen(args: argparse.Namespace) -> "list[Scenario]":
    """The scenarios that are meant. Raises Usage."""
    from p2p.scenarios.catalog import find
    from p2p.scenarios.scenario import PEERS_MAX

    scenarios = find(args.scenario)
    if args.peers is None:
        return scenarios
    least = max(scenario.peers for scenario in scenarios)
    if not least <= args.peers <= PEERS_MAX:
        raise Usage(
            f"--peers {args.peers}: {args.scenario} needs {least} at least, and on one machine "
            f"{PEERS_MAX} are the most"
        )
    return [scenario.with_peers(args.peers) for scenario in scenarios]


@contextlib.contextmanager
def _listener(args: argparse.Namespace) -> "Iterator[Tell]":
    """JSON a line each, bars on a terminal, else lines."""
    from p2p.scenarios.lines import Lines
    from p2p.scenarios.news import to_wire

    if args.json:
        yield lambda news: print_json(to_wire(news))
    elif sys.stderr.isatty():
        from p2p.scenarios.bars import Bars

        with Bars() as bars:
            yield bars.tell
    else:
        yield Lines(say).tell


def _has_screen(args: argparse.Namespace) -> bool:
    streams = (sys.stdin, sys.stdout, sys.stderr)  # the screen is drawn on stderr
    quiet = args.headless or args.json or args.report
    return not quiet and all(stream.isatty() for stream in streams)


def _on_screen(args: argparse.Namespace) -> int:
    peers = [] if args.peers is None else ["--peers", str(args.peers)]
    return subprocess.call([sys.executable, "-P", "-m", "tui.cli", "--demo", args.scenario, *peers])


def _end(number: int, frame: object) -> None:
    for other in ENDING:  # a shell passes its own SIGHUP on: the second must not end the clean-up
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Start a small cluster on this host in a temporary folder, do to it what a scenario says, "
        "and check what must hold. Exit code 0 if all did, else 1. On a terminal the screen of "
        "p2ptui shows it; --headless shows progress bars, or lines where there is no terminal."
    )
    parser.add_argument(
        "--peers", metavar="N", type=int, help="how many there are at the beginning (its own)"
    )
    parser.add_argument(
        *("--scenario",),
        metavar="NAME|all|FILE",
        default=DEFAULT,
        help=f"{', '.join(NAMES)}, {ALL}, or a FILE.toml of your own ({DEFAULT})",
    )
    parser.add_argument("--headless", action="store_true", help="never open the screen")
    parser.add_argument(
        *("--report",),
        metavar="FILE",
        help="write the verdict as JSON, and as JUnit's XML beside it with the suffix .xml (or the "
        "other way round, if FILE ends in .xml); implies --headless",
    )
    parser.add_argument(
        *("--json",),
        action="store_true",
        default=argparse.SUPPRESS,
        help="print what happens as JSON, the verdict last",
    )


VERBS = (Verb("demo", "see it survive: what is promised, shown and checked", _arguments, run),)
