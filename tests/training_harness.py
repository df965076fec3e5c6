"""Plays the peer: a real spare, real trainers forked from it, generations and leases by hand."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import zmq

from p2p.training.stream import Decoder, Message, encode

WAIT_S = 30.0
LEASE_S = 5.0


def keys() -> dict[str, bytes]:
    server_public, server_secret = zmq.curve_keypair()
    client_public, client_secret = zmq.curve_keypair()
    return {
        "server_public": server_public,
        "server_secret": server_secret,
        "client_public": client_public,
        "client_secret": client_secret,
    }


def job(**changes: Any) -> dict[str, Any]:
    """A job spec as the peer sends it: digits, a few steps, unless changed."""
    return {
        "id": "job-1",
        "name": "test",
        "task": "digits",
        "task_class": "Digits",
        "task_source": None,
        "task_sha": None,
        "shards": 12,
        "global_batch": None,
        "epochs": None,
        "steps": None,
        "lr": None,
        "seed": 7,
        "strategy": "ring",
        "codec": "int32",
        "data": None,
        "options": {},
        "threads": 1,
        "checkpoint_every": None,
        **changes,
    }


def even(members: int, shards: int = 12) -> list[tuple[int, int]]:
    return [(shards * i // members, shards * (i + 1) // members) for i in range(members)]


class Spare:
    """The warm spare of a peer. Messages of exits are kept by child."""

    def __init__(self, log: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "p2p.training.spare"], stdin=theirs, stdout=out, stderr=out
            )
        theirs.close()
        ours.settimeout(WAIT_S)
        self.socket = ours
        self.exits: dict[str, Message] = {}
        self.warm_seconds = float(self._take("warm")["seconds"])

    def fork(self, child: str) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        request = msgpack.packb({"kind": "fork", "child": child})
        socket.send_fds(self.socket, [request], [theirs.fileno()])
        theirs.close()
        return int(self._take("forked")["pid"]), ours

    def exited(self, child: str) -> Message:
        while child not in self.exits:
            self._read()
        return self.exits.pop(child)

    def next_exit(self, children: Collection[str]) -> Message:
        """Of whichever of these ends first; an earlier test's children may still be ending."""
        while not (ended := self.exits.keys() & children):
            self._read()
        return self.exits.pop(ended.pop())

    def _take(self, kind: str) -> Message:
        while (message := self._read())["kind"] != kind:
            pass
        return message

    def _read(self) -> Message:
        data = self.socket.recv(1 << 16)
        assert data, "the spare is gone"
        message: Message = msgpack.unpackb(data)
        if message["kind"] == "exited":
            self.exits[message["child"]] = message
        return message

    def close(self) -> None:
        self.socket.close()
        self.process.wait(WAIT_S)


class Trainer:
    """One trainer as its peer sees it: everything it said, in order."""

    def __init__(self, name: str, spare: Spare, child: str) -> None:
        self.name, self.spare, self.child = name, spare, child
        self.forked_at = time.monotonic()
        self.pid, self._stream = spare.fork(child)
        self.said: list[Message] = []
        self.at: list[float] = []
        self.endpoints: dict[str, str] = {}
        self.leased = True
        self._changed = threading.Condition()
        self._gone = False
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def tell(self, kind: str, **fields: Any) -> None:
        self._stream.sendall(encode({"kind": kind, **fields}))

    def wait(self, kind: str, test: Callable[[Message], bool] = lambda _: True) -> Message:
        """The first message of this kind that passes, already here or to come."""
        found: list[Message] = []

        def here() -> bool:
            found[:] = [m for m in self.said if m["kind"] == kind and test(m)]
            return bool(found) or self._gone

        with self._changed:
            in_time = self._changed.wait_for(here, WAIT_S)
        story = [(m["kind"], m.get("step"), m.get("error")) for m in self.said][-8:]
        assert found, f"{self.name} {'ended' if in_time else 'is late'} without {kind}: {story}"
        return found[0]

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.exited()["signal"] == signal.SIGKILL

    def exited(self) -> Message:
        return self.spare.exited(self.child)

    def _listen(self) -> None:
        decoder = Decoder()
        with contextlib.suppress(OSError):
            while data := self._stream.recv(1 << 18):
                with self._changed:
                    for message in decoder.feed(data):
                        self.said.append(message)
                        self.at.append(time.monotonic())
                    self._changed.notify_all()
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        self._reader.join(WAIT_S)
        self._stream.close()


class Stage:
    """A job's trainers, its generations and its leases. Everything ends with the `with` block."""

    def __init__(self, spare: Spare, folder: Path) -> None:
        self.spare, self.folder = spare, folder
        self.ipc = tempfile.mkdtemp(prefix="p2p-")  # short: a socket's path has 107 bytes
        self.keys = keys()
        self.number = 0
        self.trainers: list[Trainer] = []
        self._stop = threading.Event()
        self._renewer = threading.Thread(target=self._renew, daemon=True)
        self._renewer.start()

    def start(self, name: str, spec: dict[str, Any], gpu: str | None = None) -> Trainer:
        """Fork a trainer and tell it to begin."""
        trainer = Trainer(name, self.spare, f"{name}-{len(self.trainers)}-{id(self)}")
        self.trainers.append(trainer)
        trainer.tell(
            "begin",
            job=spec,
            peer=name,
            bind_host="127.0.0.1",
            ipc_dir=self.ipc,
            keys=self.keys,
            checkpoint_dir=str(self.folder / f"checkpoints-{name}"),
            source_dir=str(self.folder / "source"),
            gpu=gpu,
        )
        return trainer

    def ready(self, *names: str, spec: dict[str, Any]) -> list[Trainer]:
        """Start trainers and wait until all are ready."""
        started = [self.start(name, spec) for name in names]
        for trainer in started:
            trainer.endpoints = trainer.wait("ready")["endpoints"]
        return started

    def generation(
        self,
        *members: Trainer,
        shards: list[tuple[int, int]] | None = None,
        mark_every_s: float = 0.0,
        method: dict[str, Any] | None = None,
        checkpoints: Mapping[str, list[Message]] | None = None,
        in_order: bool = False,
    ) -> int:
        """`checkpoints` = by name, what a trainer is told to have of any."""
        self.number += 1
        for trainer in members:
            trainer.tell(
                "generation",
                number=self.number,
                members=[{"peer": t.name, "endpoints": t.endpoints} for t in members],
                shards=shards or even(len(members)),
                in_order=in_order,
                mark_every_s=mark_every_s,
                method=method,
                checkpoints=(checkpoints or {}).get(trainer.name, []),
            )
        self.lease()  # after the order: else a step of the last generation could still complete
        return self.number

    def lease(self) -> None:
        for trainer in list(self.trainers):
            if trainer.leased:
                with contextlib.suppress(OSError):
                    trainer.tell("lease", until=time.monotonic() + LEASE_S)

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_S / 5):
            self.lease()

    def close(self) -> None:
        self._stop.set()
        self._renewer.join()
        for trainer in self.trainers:
            trainer.close()
        for trainer in self.trainers:
            if trainer.child in self.spare.exits or Path(f"/proc/{trainer.pid}").exists():
                trainer.exited()
        shutil.rmtree(self.ipc, ignore_errors=True)


@contextlib.contextmanager
def stage(spare: Spare, folder: Path) -> Iterator[Stage]:
    made = Stage(spare, folder)
    try:
        yield made
    finally:
        made.close()


def finish(*members: Trainer) -> Message:
    """Wait for all to finish; they must agree. What they said last."""
    last = [trainer.wait("finished") for trainer in members]
    assert len({m["state_hash"] for m in last}) == 1
    assert all(m["ledger"] == last[0]["ledger"] for m in last)
    return last[0]
