"""How long ranks on one host take to tell one another that data is ready, by three means in turns.

A round: everybody tells all others, and waits until all others have told. `futex` is what shared
memory uses: a word in the rank's own memory, on which the others sleep. `push-pull` is a message of
eight bytes to each over ZeroMQ ipc. `spin` looks at the word again and again, and lets others run
in between. Every rank computes for some time between two rounds, as in use.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import zmq

from collectives import futex
from collectives.shm_control import ControlSegment, Membership, OtherControl, reached
from tools.bench import ranks

MEANS = ("futex", "push-pull", "spin")
ROUNDS, TURNS = 200, 7  # of each means in each turn
Round = Callable[[int], None]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench notices", description=__doc__)
    parser.add_argument("--processes", default="2,3,4,8", help="how many at a time (2,3,4,8)")
    parser.add_argument("--work", type=int, default=100, help="microseconds of it (100)")
    chosen = parser.parse_args(arguments)
    print(f"microseconds per round, median, beyond {chosen.work} us of work; load {_load()}")
    print("processes " + " ".join(f"{name:>10}" for name in MEANS))
    for count in (int(word) for word in chosen.processes.split(",")):
        told = measure(count, chosen.work * 1e-6)
        print(f"{count:9} " + " ".join(f"{told[name] * 1e6:10.1f}" for name in MEANS), flush=True)
    return 0


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def measure(count: int, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        plans = [(rank, count, seconds, folder) for rank in range(count)]
        with ranks.started(work, plans) as pipes:
            ranks.introduce(pipes)
            times = [pipe.recv() for pipe in pipes]
    return {name: statistics.median(max(of[name]) for of in times) for name in MEANS}


def work(rank: int, count: int, seconds: float, folder: str, parent: Connection) -> None:
    """One rank: seconds per round beyond the work, for every turn of every means."""
    members = [Membership(b"notices-", 1, other, count) for other in range(count)]
    control = ControlSegment(members[rank])
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    pull = context.socket(zmq.PULL)
    pull.bind(f"ipc://{folder}/{rank}")
    parent.send(control.invitation)
    invitations = parent.recv()
    others = [OtherControl(members[r], invitations[r]) for r in range(count) if r != rank]
    pushes = [context.socket(zmq.PUSH) for _ in others]
    for push, other in zip(pushes, others, strict=True):
        push.connect(f"ipc://{folder}/{other.rank}")
    early: Counter[int] = Counter()
    means: dict[str, Round] = {
        "futex": lambda step: by_futex(control, others, step),
        "push-pull": lambda step: by_messages(pushes, pull, early, step),
        "spin": lambda step: by_spinning(control, others, step),
    }
    taken: dict[str, list[float]] = {name: [] for name in MEANS}
    step, matrix = 0, np.ones(256)
    for _ in range(TURNS):
        for name, tell in means.items():
            started, worked = time.perf_counter(), 0.0
            for _ in range(ROUNDS):
                step += 1
                worked += compute(seconds, matrix)
                tell(step)
            taken[name].append((time.perf_counter() - started - worked) / ROUNDS)
    parent.send({name: [statistics.median(of)] for name, of in taken.items()})
    context.destroy(linger=1000)
    for other in others:
        other.close()
    control.close()


def compute(seconds: float, values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    started = time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        np.sqrt(values, out=values)
    return passed


def by_futex(control: ControlSegment, others: list[OtherControl], step: int) -> None:
    control.publish(step)
    for other in others:
        while not reached(word := other.word, step):
            futex.wait(other.address, word)


def by_spinning(control: ControlSegment, others: list[OtherControl], step: int) -> None:
    control.publish(step)
    for other in others:
        while not reached(other.word, step):
            os.sched_yield()


def by_messages(
    pushes: "list[zmq.Socket[bytes]]", pull: "zmq.Socket[bytes]", early: Counter[int], step: int
) -> None:
    for push in pushes:
        push.send(step.to_bytes(8, "big"))
    while early[step] < len(pushes):
        early[int.from_bytes(pull.recv(), "big")] += 1  # who is ahead tells of the next round
