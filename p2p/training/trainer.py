"""The life of a trainer, from its peer's first message to the last: runs in a fork of the spare."""

import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from collectives.plane import Aborted, CurveKeys, DataPlane, Endpoints, LostPeer, OutOfStep
from p2p.errors import P2PError
from p2p.training import task
from p2p.training.blame import TaskFailed, sentence
from p2p.training.checkpoints import Checkpoints
from p2p.training.control import Control, Order
from p2p.training.device import take
from p2p.training.follower import Follow, Follower
from p2p.training.generation import Clock, Generation
from p2p.training.giver import Giver
from p2p.training.giver_socket import GiverSocket, Link, address_of
from p2p.training.run import Run
from p2p.training.spec import parse

LOST_PEER_S = 10.0  # for the leader to notice and order what follows
LOST_PEER_RANK_S = 5.0  # more for every rank, so that not all end at once
NICENESS = 5  # the peer's heartbeats come first


def main(stream: socket.socket) -> int:
    """Serve one peer until it says stop. Returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the peer, which tells us
    os.nice(NICENESS)
    control = Control(stream)
    trainer = Trainer(control)
    try:
        trainer.live()
    except OutOfStep as error:
        # Nobody's fault, and a new process is the cure: end like a crash, which peers replace.
        print(f"trainer: {error}", file=sys.stderr)
        return 1
    except BaseException as error:
        trainer.report(error)
        return 1
    return 0


class Trainer:
    """`during` says what is being done, for the report if it fails."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.during = "import"
        self.task_file: str | None = None
        self.clock = Clock()
        self.seat = (-1, -1)  # its last generation, and its rank there

    def live(self) -> None:
        begin = self.control.begin()
        spec = parse(begin["job"])
        device = take(begin.get("gpu"))
        cls = task.load(spec, str(begin["source_dir"]))
        self.task_file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        self.during = "setup"
        self.run = Run(spec, task.create(cls, spec), device)
        self.during = "step"
        self.run.warm_up()
        self.during = "setup"
        keys = CurveKeys(**{name: _bytes(key) for name, key in begin["keys"].items()})
        self.plane = DataPlane(
            str(begin["bind_host"]), str(begin["ipc_dir"]), keys, begin.get("advertise_host")
        )
        self.control.attach(self.plane)
        self.checkpoints = Checkpoints(
            Path(str(begin["checkpoint_dir"])),
            self.run,
            self.control.send,
            lambda: self.control.asks,
        )
        self.giver = Giver(self.run)
        self.run.before_change = self.giver.wait_copied
        self.giving = GiverSocket(self.giver, str(begin["bind_host"]), str(begin["ipc_dir"]), keys)
        self.follower = Follower(self.run, partial(self._link, keys), self._say_ready)
        self.during = "step"
        try:
            self._say_ready()
            self._obey()
        finally:
            self.follower.close()
            self.giving.close()
            self.checkpoints.wait()
            self.plane.close()

    def _obey(self) -> None:
        done = -1
        while (order := self.control.wait(done)) is not None:
            if order == "checkpoint":
                number, rank = self.seat
                if rank == 0:
                    self.checkpoints.start_whole(number)
                    self.checkpoints.wait_copied()
                continue
            if isinstance(order, Follow):
                self.follower.follow(order)
                continue
            assert isinstance(order, Order)
            self.follower.finish(order.number, [each["endpoints"] for each in order.members])
            done = order.number
            try:
                self._take_part(order)
            except LostPeer:
                # The leader orders a generation without it. If it does not, only a connection broke
                # and nobody else knows: then one trainer after the other makes itself heard below.
                rank = _members(order).index(self.plane.endpoints)
                patience = LOST_PEER_S + rank * LOST_PEER_RANK_S
                self.control.wait_is_over(order.number, patience)
            except OutOfStep:
                # Data was lost. If a newer order explains it, go on with that; else only a new
                # process gets clean streams, and its peer orders a new generation for it.
                self.control.check_is_over(order.number)
            except Aborted:
                continue

    def _take_part(self, order: Order) -> None:
        members = _members(order)
        if self.plane.endpoints not in members:
            return  # not for this process: wait for the next
        rank = members.index(self.plane.endpoints)
        _check_shards(order, self.run.schedule.shards)
        try:
            self.run.use(order.method)
        except (P2PError, TaskFailed, ValueError) as error:
            told = {"generation": order.number, "error": sentence(error, self.task_file)}
            self.control.send({"kind": "refused", **told})
            return  # the leader orders another generation, by another method
        self.seat = order.number, rank
        group = self.plane.enter(self.run.spec.id, order.number, rank, members)
        desks = self.control, self.checkpoints, self.giver
        Generation(order, group, self.run, *desks, self.clock).live()

    def _link(self, keys: CurveKeys, endpoints: Mapping[str, Any]) -> Link | None:
        address = address_of(endpoints, self.plane.endpoints)
        return self.giving.link(address, self.control.news, keys) if address else None

    def _say_ready(self) -> None:
        schedule, here = self.run.schedule, self.plane.endpoints
        self.control.send(
            {
                "kind": "ready",
                "endpoints": {**here.to_wire(), **self.giving.endpoints(here)},
                "learning": self.follower.is_learning,
                "step": self.run.position.step,
                "steps_total": schedule.steps_total,
                "steps_per_epoch": schedule.steps_per_epoch,
                "train_samples": schedule.train_samples,
                "global_batch": schedule.global_batch,
                "parameters": self.run.parameters,
            }
        )

    def report(self, error: BaseException) -> None:
        """Tell the peer why this process ends, and its log file the whole story."""
        with contextlib.suppress(OSError):  # the disk with the log may be what failed
            traceback.print_exception(error)
            sys.stderr.flush()
        self.control.send(
            {
                "kind": "failed",
                "during": self.during,
                "user_error": isinstance(error, TaskFailed),
                "error": sentence(error, self.task_file),
            }
        )


def _members(order: Order) -> list[Endpoints]:
    return [Endpoints.from_wire(member["endpoints"]) for member in order.members]


def _check_shards(order: Order, shards: int) -> None:
    expected = 0
    for lo, hi in order.shards:
        if lo != expected or hi < lo:
            break
        expected = hi
    if expected != shards or len(order.shards) != len(order.members):
        raise P2PError(f"generation {order.number} deals shards {order.shards}, not 0 to {shards}")


def _bytes(key: Any) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode()


def warm() -> float:
    """Import and touch all that a trainer needs, so that forks share it. Seconds it took."""
    began = time.monotonic()
    import torch._dynamo

    torch.set_num_threads(1)  # before any computation: a fork must not inherit a thread pool
    torch.use_deterministic_algorithms(True)
    if torch.version.cuda is None:  # else backward starts threads that no fork survives
        parameter = torch.nn.Parameter(torch.zeros(2))
        optimizer = torch.optim.AdamW([parameter])
        (parameter * 2).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return time.monotonic() - began
