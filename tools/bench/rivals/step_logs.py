"""What rival trainers write down, and what a kill did to them.

Every process of a rival appends a line "monotonic seconds, step, how many take part" to a file
`steps-*` of its own after each optimizer step. The stall is from the last step that all made
together to the first one without the killed; nothing of it depends on when anybody looked.
"""

import contextlib
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tools.bench.rivals.processes import Process

STEPS_FIRST = 60
START_TIMEOUT_S = 90.0
GO_ON_TIMEOUT_S = 30.0
POLL_S = 0.02

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Started:
    """A rival's processes: those that make steps, and who is killed as leader or as follower."""

    trainers: Sequence[Process]
    leader: Process
    followers: Sequence[Process]


def measure(
    rival: str, start: Callable[[Path], Started], count: int, nodes: int, kinds: Sequence[str]
) -> Generator[Row]:
    """One row per kill, printed as well; `start` is given a folder for logs and steps. `stall_s`
    None: nobody made a step again."""
    for kind in kinds:
        for at in range(count if kind == "follower" else 1):
            with tempfile.TemporaryDirectory(prefix=f"p2p-{rival}-") as name:
                told = _one(start(Path(name)), Path(name), nodes, kind, at)
            row = {"rival": rival, "who": kind, **told}
            print(line(row), flush=True)
            if row["output"]:
                print("  it said: " + "\n           ".join(row["output"]), flush=True)
            yield row


def _one(started: Started, folder: Path, nodes: int, kind: str, at: int) -> Row:
    trainers = started.trainers
    nothing: Row = {"stall_s": None, "next_s": None, "repeated": None}
    try:
        if not run_well(folder, nodes, trainers):
            return {**nothing, "output": said(folder)}
        time.sleep(0.1 * at)
        followers = started.followers
        victim = started.leader if kind == "leader" else followers[at % len(followers)]
        killed_s = time.monotonic()
        kill(victim.pid)
        told = after_kill(folder, nodes, killed_s, trainers)
        return {**nothing, **told, "output": [] if told else said(folder)}
    finally:
        for process in {started.leader, *trainers}:
            kill(process.pid)
            process.wait()


class Step(NamedTuple):
    at_s: float
    number: int
    size: int


def read(folder: Path) -> list[Step]:
    """All steps of all processes so far, by time."""
    found = []
    for file in folder.glob("steps-*"):
        for line in file.read_text().splitlines():
            words = line.split()
            if len(words) == 3:
                found.append(Step(float(words[0]), int(words[1]), int(words[2])))
    return sorted(found)


def run_well(folder: Path, nodes: int, processes: Sequence[Process]) -> bool:
    """Waits until so many make steps together; False if they do not."""

    def enough() -> bool:
        together = [step for step in read(folder) if step.size == nodes]
        return len(together) >= STEPS_FIRST * nodes

    return _wait(enough, processes, START_TIMEOUT_S)


def after_kill(
    folder: Path, nodes: int, killed_s: float, processes: Sequence[Process]
) -> dict[str, Any]:
    """What a row says of the time after it; {} when nobody made a step again."""

    def fewer() -> list[Step]:
        return [step for step in read(folder) if step.at_s > killed_s and step.size < nodes]

    if not _wait(lambda: bool(fewer()), processes, GO_ON_TIMEOUT_S):
        return {}
    first = fewer()[0]
    before = [step for step in read(folder) if step.size == nodes and step.at_s < first.at_s]
    last = before[-1]
    times = sorted({step.number: step.at_s for step in before}.values())
    return {
        "stall_s": first.at_s - last.at_s,
        "next_s": first.at_s - killed_s,
        "repeated": last.number - first.number + 1,
        "step_s": statistics.median(late - early for early, late in pairwise(times)),
    }


def kill(pid: int) -> None:
    """SIGKILL of a process and all its children, which may have sessions of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for one in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)


def said(folder: Path) -> list[str]:
    """The last error in each log."""
    lines = []
    for log in sorted(folder.glob("*.log")):
        text = log.read_text(errors="replace").splitlines()
        errors = [line for line in text if "Error: " in line or "panicked" in line]
        lines += [f"{log.stem}: {line[:150]}" for line in errors[-1:]]
    return lines


def line(row: Row) -> str:
    if row["stall_s"] is None:
        return f"  {row['who']:<9} nobody made a step again (waited up to {GO_ON_TIMEOUT_S:g} s)"
    return (
        f"  {row['who']:<9} stall {row['stall_s']:.3f} s, kill -> next step {row['next_s']:.3f} s, "
        f"{row['repeated']} steps repeated, step time before {row['step_s'] * 1e3:.1f} ms"
    )


def _wait(is_so: Callable[[], bool], processes: Sequence[Process], timeout_s: float) -> bool:
    """False also when all processes have ended."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if is_so():
            return True
        if all(process.poll() is not None for process in processes):
            return False
        time.sleep(POLL_S)
    return False
