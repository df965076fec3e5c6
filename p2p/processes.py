"""Child processes: the only file of the peer that starts, signals and talks to processes.

One spare child has torch imported and forks a trainer on demand (0.07 s instead of 4–6 s). A
trainer is reached over a socketpair of its own, so its death is seen as end-of-file at once and
leaves no file behind. All of them die with the peer: see p2p.training.spare.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgpack

from p2p.endings import in_words, last_line
from p2p.training.death import die_with

FRAME_BYTES_MAX = 1024 * 1024  # what a trainer says ends up in a report, several in one envelope
LENGTH_BYTES = 4
SPARE_PACKET_BYTES_MAX = 64 * 1024
SPARE_RESTART_S = 2.0
# Torch then looks for GPUs without CUDA, which no fork of a process that has used it can use.
_FORKS_FIND_CUDA = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
SPARE_RESTART_MAX_S = 120.0
SPARE_FAILURES_MAX = 3  # in a row, then people hear of it
SPARE_WARM_WITHIN_S = 300.0  # importing torch from a slow disk takes long; a hang takes longer
TRAINERS_LOG = "trainers.log"


class Children(Protocol):
    @property
    def warm(self) -> bool:
        """Whether a trainer can be started now."""

    @property
    def problem(self) -> str | None:
        """Why none can be started although that was tried again and again; None = no problem."""

    def start(self, child: str, begin: Mapping[str, Any]) -> None:
        """Fork a trainer named `child` and give it its first message."""

    def send(self, child: str, message: Mapping[str, Any]) -> None:
        """Tell a trainer; silently nothing if it is gone."""

    def kill(self, child: str) -> None:
        """SIGKILL; its end is reported like any other."""

    def close(self) -> None:
        """End all children."""


@dataclass
class ChildListener:
    on_warm: Callable[[], None]
    on_message: Callable[[str, dict[str, Any]], None]
    on_exit: Callable[[str, str], None]  # child, what is known of its end ("": it will be told)
    on_status: Callable[[str, str], None]  # child, how it ended: known a little later


class MemoryChildren:
    """The twin: records what it is told; the test plays the trainers and reports their ends."""

    def __init__(self) -> None:
        self.warm = True
        self.problem: str | None = None
        self.started: dict[str, Mapping[str, Any]] = {}
        self.told: dict[str, list[Mapping[str, Any]]] = {}  # by child, without leases
        self.leased_s: dict[str, float] = {}  # by child, until when
        self.killed: set[str] = set()

    def start(self, child: str, begin: Mapping[str, Any]) -> None:
        self.started[child] = begin
        self.told[child] = []

    def send(self, child: str, message: Mapping[str, Any]) -> None:
        if child not in self.started:
            return
        if message["kind"] == "lease":
            self.leased_s[child] = float(message["until"])
        else:
            self.told[child].append(message)

    def kill(self, child: str) -> None:
        self.killed.add(child)

    def end(self, child: str) -> None:
        """The trainer is gone; whoever plays it tells the peer."""
        self.started.pop(child, None)
        self.told.pop(child, None)

    def close(self) -> None:
        self.started.clear()
        self.told.clear()


@dataclass
class _Trainer:
    writer: asyncio.StreamWriter | None
    pid: int | None = None
    task: "asyncio.Task[None] | None" = None
    pending: bytes = b""


class TrainerProcesses:
    """The real one. `logs` is the folder for what children print, `scratch` goes when they do."""

    def __init__(self, logs: Path, scratch: Path, listener: ChildListener) -> None:
        self.warm = False
        self.problem: str | None = None
        self._failures = 0  # spares in a row that ended before they were warm
        self._logs = logs
        self._scratch = scratch
        self._listener = listener
        self._spare: subprocess.Popen[bytes] | None = None
        self._spare_socket: socket.socket | None = None
        self._trainers: dict[str, _Trainer] = {}
        self._closing = False

    def start_spare(self) -> None:
        """Start the spare; `on_warm` is called when it can fork."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._logs.mkdir(parents=True, exist_ok=True)
        with theirs, (self._logs / TRAINERS_LOG).open("ab") as log:
            # -P: the folder the peer was started in must not shadow modules.
            self._spare = subprocess.Popen(
                [sys.executable, "-P", "-m", "p2p.training.spare"],
                stdin=theirs.fileno(),
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Importing torch makes this folder; here it goes with the peer.
                env={
                    "TORCHINDUCTOR_CACHE_DIR": str(self._scratch),
                    **_FORKS_FIND_CUDA,
                    **os.environ,
                },
            )
        ours.setblocking(False)
        self._spare_socket = ours
        loop = asyncio.get_running_loop()
        loop.add_reader(ours.fileno(), self._read_spare)
        loop.call_later(SPARE_WARM_WITHIN_S, self._end_if_cold, self._spare)

    def start(self, child: str, begin: Mapping[str, Any]) -> None:
        assert self._spare_socket is not None, "not warm"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            order = msgpack.packb({"kind": "fork", "child": child, "of": begin["kind"]})
            try:
                socket.send_fds(self._spare_socket, [order], [theirs.fileno()])
            except OSError:
                ours.close()
                self._listener.on_exit(child, "the spare process is gone")
                return
        trainer = _Trainer(None, pending=_frame(begin))
        self._trainers[child] = trainer
        trainer.task = asyncio.ensure_future(self._serve(child, trainer, ours))
        trainer.task.add_done_callback(_raise_in_loop)

    def send(self, child: str, message: Mapping[str, Any]) -> None:
        trainer = self._trainers.get(child)
        if trainer is None:
            return
        if trainer.writer is None:
            trainer.pending += _frame(message)
        elif not trainer.writer.is_closing():
            trainer.writer.write(_frame(message))

    def kill(self, child: str) -> None:
        trainer = self._trainers.get(child)
        if trainer is not None and trainer.pid is not None:
            _signal(trainer.pid, signal.SIGKILL)

    def close(self) -> None:
        self._closing = True
        self.warm = False
        for trainer in self._trainers.values():
            if trainer.task is not None:
                trainer.task.cancel()
            if trainer.pid is not None:
                _signal(trainer.pid, signal.SIGKILL)
        if self._spare_socket is not None:
            asyncio.get_running_loop().remove_reader(self._spare_socket.fileno())
            self._spare_socket.close()
        if self._spare is not None:
            self._spare.kill()
            self._spare.wait()

    async def _serve(self, child: str, trainer: _Trainer, ours: socket.socket) -> None:
        """Read one trainer's messages until its end."""
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=2**20)
        trainer.writer = writer
        writer.write(trainer.pending)
        trainer.pending = b""
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                if size > FRAME_BYTES_MAX:
                    break
                message = _parsed(await reader.readexactly(size))
                if message is None:
                    break
                self._listener.on_message(child, message)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # its end
        finally:
            writer.close()  # if it still runs, that ends it
        self._trainers.pop(child, None)
        if not self._closing:
            self._listener.on_exit(child, "")

    def _read_spare(self) -> None:
        assert self._spare_socket is not None
        while True:
            try:
                packet = self._spare_socket.recv(SPARE_PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._spare_ended()
                return
            self._on_spare(msgpack.unpackb(packet))

    def _on_spare(self, message: dict[str, Any]) -> None:
        if message["kind"] == "warm":
            self.warm, self.problem, self._failures = True, None, 0
            self._listener.on_warm()
        elif message["kind"] == "forked":
            trainer = self._trainers.get(message["child"])
            if trainer is not None:
                trainer.pid = message["pid"]
        elif message["kind"] == "exited":
            self._listener.on_status(message["child"], in_words(message["code"], message["signal"]))

    def _spare_ended(self) -> None:
        """The spare was killed, and its trainers with it: start another after a breath."""
        assert self._spare is not None
        assert self._spare_socket is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._spare_socket.fileno())
        self._spare_socket.close()
        self._spare_socket = None
        was_warm, self.warm = self.warm, False
        code = self._spare.wait()
        if self._closing:
            return
        self._failures = 0 if was_warm else self._failures + 1
        if self._failures >= SPARE_FAILURES_MAX:
            said = last_line(self._logs / TRAINERS_LOG)
            ended = in_words(code, -code if code < 0 else None)
            self.problem = (
                f"no trainer can be started, as the process for that ends ({ended}): {said}"
            )
            self._listener.on_warm()  # the peer looks what it can do
        again_s = min(SPARE_RESTART_S * 2**self._failures, SPARE_RESTART_MAX_S)
        loop.call_later(again_s, self._restart_spare)

    def _end_if_cold(self, spare: "subprocess.Popen[bytes]") -> None:
        """It hangs: its end is noticed like any other."""
        if spare is self._spare and not self.warm and not self._closing:
            spare.kill()

    def _restart_spare(self) -> None:
        if not self._closing:
            self.start_spare()


def end_self(number: int) -> None:
    """A fault drill: the kernel ends or stops this very process."""
    os.kill(os.getpid(), number)


def continue_later(seconds: float) -> None:
    """Wake this process up after it was stopped: a stopped process cannot do so itself."""
    subprocess.Popen(
        ["/bin/sh", "-c", f"sleep {seconds:.3f}; kill -CONT {os.getpid()}"],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def start_peer(arguments: list[str], log: Path) -> int:
    """Start another peer that outlives this process; returns its pid."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "p2p.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return process.pid


def open_peer(
    arguments: list[str], log: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a peer that dies with this process; its announcement comes on its stdout.

    It begins with Ctrl-C as it is by default: a job that a script runs in the background passes
    on that it is ignored, and a peer keeps to what it was given.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "p2p.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            env=dict(environment),
            start_new_session=True,
            preexec_fn=partial(_begin_peer, os.getpid()),
        )


def _begin_peer(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with(parent)


def _frame(message: Mapping[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(dict(message))
    return len(packed).to_bytes(LENGTH_BYTES, "big") + packed


def _parsed(data: bytes) -> dict[str, Any] | None:
    """None for what no trainer of ours would say."""
    try:
        message = msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException):
        return None
    return message if isinstance(message, dict) else None


def _raise_in_loop(task: "asyncio.Task[None]") -> None:
    """An error of the peer itself (its disk, say) must not be lost with a trainer's task."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        task.get_loop().call_exception_handler({"message": str(error), "exception": error})


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
