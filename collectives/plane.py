"""The data plane of one process: where other ranks' data arrives, and how waiting for it ends.

One PULL socket takes everything (TCP with CURVE for other hosts, ipc in a private directory for
this one); every generation makes its own PUSH sockets, so nothing half-sent is left over.
All methods belong to one thread, except `abort`, which any thread may call.
"""

import contextlib
import ctypes
import os
import secrets
import socket
import stat
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import zmq

from collectives.errors import Aborted, LostPeer, OutOfStep
from collectives.frames import Control, Header, Stream, job_digest, unpack
from collectives.links import FRAME_BYTES, Arrival
from collectives.liveness import Connections, Member
from collectives.operations import Group
from collectives.shm_memory import MEMORY
from collectives.zap import Doorkeeper

__all__ = ["Aborted", "CurveKeys", "DataPlane", "Endpoints", "Group", "LostPeer", "OutOfStep"]

MESSAGE_BYTES_MAX = 4 << 20  # a longer message is refused while it arrives, before it has memory
MESSAGES_QUEUED_MAX = 64  # per link and side; more than that waits at the sender
HANDSHAKE_MS_MAX = 5000  # a connection that has not proved itself by then is closed
KEPT_BYTES_MAX = 1 << 30  # data of operations and generations we have not entered yet
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
IPC_PATH_BYTES_MAX = 107  # sizeof(sockaddr_un.sun_path) - 1


@dataclass(frozen=True)
class Endpoints:
    """Where a rank's data plane listens. `host` is equal exactly where `ipc` may be reachable."""

    host: str
    tcp: str
    ipc: str

    def to_wire(self) -> dict[str, str]:
        return asdict(self)

    def near(self, other: "Endpoints") -> bool:
        """Whether the other's ipc socket is here."""
        return self.host == other.host and Path(other.ipc.removeprefix("ipc://")).exists()

    @classmethod
    def from_wire(cls, wire: Any) -> "Endpoints":
        """Raises ValueError when this is not what `to_wire` made."""
        fields = ("host", "tcp", "ipc")
        if not isinstance(wire, dict) or not all(isinstance(wire.get(f), str) for f in fields):
            raise ValueError(f"not the endpoints of a data plane: {wire!r:.200}")
        return cls(**{field: wire[field] for field in fields})


@dataclass(frozen=True)
class Site:
    """Where connections besides the plane's own sockets are taken, and whether in the clear."""

    host: str
    folder: str
    plain_tcp: bool


@dataclass(frozen=True)
class CurveKeys:
    """The cluster's data-plane keys, z85 as from `zmq.curve_keypair`. Every member has the same."""

    server_public: bytes
    server_secret: bytes
    client_public: bytes
    client_secret: bytes


def keep_receive_memory() -> None:
    """Let malloc keep what a received chunk leaves, for the next one.

    By default glibc gives blocks of this size back to the kernel when they are freed and has every
    page of the next one zeroed again: measured, a third of the time of an all-reduce.
    """
    with contextlib.suppress(AttributeError):  # another C library: nothing to set
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that glibc allows
        mallopt(_M_TRIM_THRESHOLD, MESSAGES_QUEUED_MAX << 20)


def host_identity() -> str:
    """Equal for two processes exactly when they share a kernel, a host name and a mount view."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    mounts = os.readlink("/proc/self/ns/mnt")
    return f"{boot}/{socket.gethostname()}/{mounts}"


class DataPlane:
    """Binds at once; `endpoints` says where. Raises ValueError or OSError with one sentence."""

    def __init__(
        self,
        bind_host: str,
        ipc_dir: str,
        keys: CurveKeys,
        advertise_host: str | None = None,
        *,
        plain_tcp: bool = False,
    ) -> None:
        """`plain_tcp`: no encryption and no doorkeeper between hosts, only where every member says
        so and the network lets nobody else in."""
        ipc = self._ipc_path = _private_path(ipc_dir)
        keep_receive_memory()
        self.dropped: Counter[str] = Counter()
        self._keys = keys
        self.site = Site(bind_host, str(Path(ipc).parent), plain_tcp)
        self._floor = 0
        self._lock = threading.Lock()
        self._closed = False
        self._group: Group | None = None
        self._kept: deque[Arrival] = deque()
        self.kept_bytes = 0
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._doorkeeper = Doorkeeper(self._context, {keys.client_public})
        self._pull = self._context.socket(zmq.PULL)
        self.connections = Connections(self._pull)
        try:
            port = self._bind(bind_host, ipc)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(f"cannot listen for training data on {bind_host}: {error}") from error
        host = advertise_host or bind_host
        if host in ("0.0.0.0", "::", "*"):
            host = socket.gethostname()
        bracketed = f"[{host}]" if ":" in host else host
        self.endpoints = Endpoints(host_identity(), f"tcp://{bracketed}:{port}", f"ipc://{ipc}")

    def _bind(self, host: str, ipc: str) -> int:
        pull = self._pull
        pull.linger = 0
        pull.maxmsgsize = MESSAGE_BYTES_MAX
        pull.rcvhwm = MESSAGES_QUEUED_MAX
        pull.handshake_ivl = HANDSHAKE_MS_MAX
        # A socket's security applies to what is bound after it is set: ipc is guarded by the
        # directory's mode and stays plain, TCP is not.
        pull.bind(f"ipc://{ipc}")
        if not self.site.plain_tcp:
            pull.curve_server = True
            pull.curve_secretkey = self._keys.server_secret
            pull.curve_publickey = self._keys.server_public
        pull.ipv6 = ":" in host
        return pull.bind_to_random_port(f"tcp://[{host}]" if ":" in host else f"tcp://{host}")

    def enter(self, job: str, generation: int, rank: int, members: Sequence[Endpoints]) -> Group:
        """Leave the generation we are in, if any, and start this one with clean streams.

        Raises Aborted when `abort` has already passed it, ValueError when it is not a newer one.
        """
        if not 0 <= rank < len(members):
            raise ValueError(f"rank {rank} is not one of the {len(members)} members")
        self.check(generation)
        job_id = job_digest(job)
        if self._group is not None:
            if generation <= self._group.generation and job_id == self._group.job:
                raise ValueError(
                    f"generation {generation} cannot follow generation {self._group.generation}"
                )
            self._group.end(f"generation {self._group.generation} is over")
        self._drain_wake()  # an abort from here on is seen at the first check of an operation
        self.connections.forget(job_id, generation)
        self._group = Group(self, job_id, generation, rank, members)
        kept, self._kept, self.kept_bytes = self._kept, deque(), 0
        for arrival in kept:
            self._sort(arrival)
        return self._group

    def abort(self, below: int) -> None:
        """From any thread: operations of generations < `below` raise Aborted, now or later."""
        with self._lock:
            if self._closed or below <= self._floor:
                return
            self._floor = below
            os.eventfd_write(self._wake, 1)
            group = self._group
        if group is not None:
            group.interrupt()

    def wake(self) -> None:
        """From any thread: a wait that is going on, or the next one, returns."""
        with self._lock:
            if not self._closed:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Let go of everything, sent or not. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.eventfd_write(self._wake, 1)
        if self._group is not None:
            self._group.end("the data plane is closed")
        MEMORY.trim()
        self._kept.clear()
        self.connections.close()
        self._pull.close(linger=0)
        self._context.term()
        Path(self._ipc_path).unlink(missing_ok=True)
        self._doorkeeper.join()
        os.close(self._wake)

    # What the group needs.

    def check(self, generation: int) -> None:
        if generation < self._floor or self._closed:
            raise Aborted(f"generation {generation} is over")

    def open(self) -> "zmq.Socket[bytes]":
        """A new PUSH socket for `connect`."""
        push = self._context.socket(zmq.PUSH)
        push.linger = 0
        push.sndhwm = MESSAGES_QUEUED_MAX
        return push

    def connect(self, push: "zmq.Socket[bytes]", target: Endpoints) -> None:
        """To this member: by ipc where its path can be seen, else by TCP."""
        if self.endpoints.near(target):
            push.connect(target.ipc)
            return
        if not self.site.plain_tcp:
            push.curve_serverkey = self._keys.server_public
            push.curve_publickey = self._keys.client_public
            push.curve_secretkey = self._keys.client_secret
        push.ipv6 = "[" in target.tcp
        push.connect(target.tcp)

    def pump(self) -> bool:
        """Sort one message that has already arrived; False when there is none.

        Raises Aborted when newer generations have sent so much that this one must be over.
        """
        try:
            first = self._pull.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        more, payload, parts = first.more, first, 1
        while more:  # the rest of a message is there as soon as its first part is
            payload, parts = self._pull.recv(copy=False), parts + 1
            more = payload.more
        header = unpack(first.buffer) if parts == 2 else None
        if header is None:
            self.dropped["malformed"] += 1
        else:
            self._sort((header, payload))
            if self.kept_bytes > KEPT_BYTES_MAX:
                raise Aborted(f"generation {header.generation} is already far ahead of this one")
        return True

    def wait(
        self,
        blocked: "Sequence[zmq.Socket[bytes]]" = (),
        monitors: "Sequence[zmq.Socket[bytes]]" = (),
        seconds: float | None = None,
        files: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Sleep until data arrives, `blocked` take a message, a monitor or one of `files` tells,
        an abort or wake."""
        connections = self.connections.monitor
        awaited: list[tuple[Any, int]] = [
            *((self._pull, zmq.POLLIN), (self._wake, zmq.POLLIN), (connections, zmq.POLLIN)),
            *((monitor, zmq.POLLIN) for monitor in monitors),
            *((push, zmq.POLLOUT) for push in blocked),
            *files,
        ]
        for ready, _ in zmq.zmq_poll(awaited, -1 if seconds is None else int(seconds * 1000)):
            if ready == self._wake:
                self._drain_wake()
            elif ready == connections:
                self.connections.drain()

    def _sort(self, arrival: Arrival) -> None:
        header, payload = arrival
        group = self._group
        if group is not None and header.job != group.job:
            self.dropped["other job"] += 1
        elif header.generation < (group.generation if group else self._floor):
            self.dropped["stale"] += 1
        elif header.stream is Stream.CONTROL:
            self._control(header, payload)
        elif group is not None and header.generation == group.generation:
            if not group.links.deliver(arrival):
                self.dropped["malformed"] += 1
        else:
            self._kept.append(arrival)
            self.kept_bytes += len(payload) + FRAME_BYTES

    def _control(self, header: Header, frame: zmq.Frame) -> None:
        member = Member(header.job, header.generation, header.sender)
        if header.part == Control.HELLO:
            self.connections.hello(int(frame.get(zmq.SRCFD)), member)
        elif header.part == Control.FAREWELL:
            self.connections.farewell(member)
        elif header.part == Control.BROKEN:
            self.connections.broken(member, header.chunk)
        else:
            self.dropped["malformed"] += 1

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)


def _private_path(ipc_dir: str) -> str:
    directory = Path(ipc_dir)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid != os.geteuid():
        raise ValueError(f"{ipc_dir} must belong to this user alone (chmod 700 {ipc_dir})")
    path = str(directory.absolute() / f"{secrets.token_hex(4)}.pull")
    if len(os.fsencode(path)) > IPC_PATH_BYTES_MAX:
        raise ValueError(
            f"{ipc_dir} is too long for a Unix socket: use a directory of at most "
            f"{IPC_PATH_BYTES_MAX - 14} bytes, for example under /tmp"
        )
    return path
