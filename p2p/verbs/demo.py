"""demo: three peers, one job, a kill and a newcomer, and whether the promise held."""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2p.errors import P2PError, Usage
from p2p.verbs.verb import Verb, print_json, say

if TYPE_CHECKING:
    from p2p.local_cluster import LocalCluster

LOOK_AROUND_S = 5.0
ENDING = (signal.SIGTERM, signal.SIGHUP)


def run(args: argparse.Namespace) -> int:
    from p2p.scenario import SCENARIOS

    if not 3 <= args.peers <= 9:
        raise Usage("--peers: a majority must survive the kill, and this is one machine: 3 to 9")
    if args.scenario not in (*SCENARIOS, "all"):
        known = ", ".join((*SCENARIOS, "all"))
        raise Usage(f"there is no scenario {args.scenario!r}: there are {known}")
    names = list(SCENARIOS) if args.scenario == "all" else [args.scenario]
    # Ended by a signal or a closed terminal, the demo still takes its peers and folder with it.
    for number in ENDING:
        signal.signal(number, _end)
    streams = (sys.stdin, sys.stdout, sys.stderr)  # the screen is drawn on stderr
    with_screen = all(stream.isatty() for stream in streams) and not args.headless
    reports = [asyncio.run(_play(name, args.peers, with_screen)) for name in names]
    report = reports[0] if len(reports) == 1 else _all_of(reports)
    if args.report:
        _write(Path(args.report), report)
    if args.json:
        print_json(report)
    else:
        for one in reports:
            print(summary(one), flush=True)
    return 0 if report["ok"] else 1


def _end(number: int, frame: object) -> None:
    for other in ENDING:  # a shell passes its own SIGHUP on: the second must not end the clean-up
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


async def _play(name: str, peers: int, with_screen: bool) -> dict[str, Any]:
    from p2p import scenario
    from p2p.local_cluster import LocalCluster

    started_s = time.monotonic()
    with LocalCluster() as cluster:
        tell = _quiet if with_screen else say
        tell(f"starting {peers} peers in {cluster.folder}")
        for _ in range(peers):
            cluster.start()
        client = cluster.client()
        screen = _open_screen(cluster) if with_screen else None
        try:
            job = (await client.request("submit", **scenario.JOB))["job"]
            watching = asyncio.ensure_future(scenario.show_progress(client, job, tell))
            stage = scenario.Stage(cluster, client, job, tell)
            await scenario.SCENARIOS[name](stage)
            told = await scenario.wait_until(client, job, lambda told: False)
            await watching
            if screen is not None:
                await _leave_screen(screen)
        finally:
            if screen is not None and screen.poll() is None:
                screen.terminate()
                screen.wait()
            await client.close()
    say("the same job on one peer, undisturbed, to compare with")
    reference = await scenario.reference_hash(say)
    report = scenario.verdict(stage, told, reference)
    return {**report, "scenario": name, "seconds": round(time.monotonic() - started_s, 1)}


def _open_screen(cluster: "LocalCluster") -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tui.cli", cluster.peers[0].address],
        env=cluster.environment,
    )


async def _leave_screen(screen: "subprocess.Popen[bytes]") -> None:
    """Leave the finished run on the screen for a moment, or until the user quits."""
    deadline_s = time.monotonic() + LOOK_AROUND_S
    while screen.poll() is None and time.monotonic() < deadline_s:
        await asyncio.sleep(0.1)


def summary(report: dict[str, Any]) -> str:
    """The verdict, for people."""
    lines = [
        "",
        f"test accuracy       {report['accuracy']:.4f}",
        *(
            f"stall of the others {_seconds(change['stall_seconds'])}  ({change['reason']})"
            for change in report["changes"]
        ),
        f"samples repeated    {report['samples_repeated']} in {report['epochs']} epochs",
        f"samples missing     {report['samples_missing']}",
        f"weights             {report['state_hash']}",
        f"undisturbed run     {report['reference_hash']}",
        f"equal               {'yes' if report['checks']['equal_weights'] else 'NO'}",
    ]
    failed = [name for name, held in report["checks"].items() if not held]
    lines.append(f"NOT HELD: {', '.join(failed)}" if failed else "the promise held")
    return "\n".join(lines)


def _seconds(stall: float | None) -> str:
    return "not measured" if stall is None else f"{stall:.3f} s"


def _all_of(reports: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schema": 1, "ok": all(one["ok"] for one in reports), "scenarios": reports}


def _write(path: Path, report: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(report, indent=2) + "\n")
    except OSError as error:
        raise P2PError(f"cannot write the report {path}: {error.strerror}") from error


def _quiet(text: str) -> None:
    """The screen shows it all."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", metavar="N", type=int, default=3)
    # Not `choices`: naming them here would import all that a peer needs for every --help.
    parser.add_argument("--scenario", metavar="NAME|all", default="kill-and-add")
    parser.add_argument("--headless", action="store_true", help="never open the screen")
    parser.add_argument("--report", metavar="FILE", help="write the verdict as JSON")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")


VERBS = (Verb("demo", "see it survive: a job, a kill -9, a newcomer, a verdict", _arguments, run),)
