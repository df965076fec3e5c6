"""The sockets of one rank's mail: PULL for all that comes, PUSH to each other rank."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from collectives.monitor import watch
from collectives.plane import CurveKeys, Endpoints, host_identity
from collectives.zap import Doorkeeper

MESSAGE_BYTES_MAX = 4 << 20
MESSAGES_QUEUED_MAX = 32  # per rank and side
MESSAGES_AT_ONCE = 64  # taken before it is somebody else's turn
LINGER_MS = 1000  # what has not gone out by then, when a group is closed, is dropped
HANDSHAKE_MS_MAX = 5000

Socket = zmq.Socket[bytes]


class PostSockets:
    """Binds at once; `endpoints` says where. Not for two threads at a time."""

    def __init__(
        self, folder: Path, keys: CurveKeys, bind_host: str | None, advertise: str = ""
    ) -> None:
        """Without `bind_host` only this host can be reached: by a socket in the private folder."""
        self._keys = keys
        self._context: zmq.Context[Socket] = zmq.Context(io_threads=1)
        self._doorkeeper: Doorkeeper | None = None
        self._path = folder / f"{secrets.token_hex(4)}.mail"
        self._push: dict[int, Socket] = {}
        self._monitors: dict[Socket, int] = {}
        self._ended: set[int] = set()
        self._pull = self._context.socket(zmq.PULL)
        self._pull.maxmsgsize = MESSAGE_BYTES_MAX
        self._pull.rcvhwm = MESSAGES_QUEUED_MAX
        self._pull.linger = 0
        self._pull.handshake_ivl = HANDSHAKE_MS_MAX
        self._pull.bind(f"ipc://{self._path}")
        tcp = self._bind_tcp(bind_host, advertise) if bind_host else ""
        self.endpoints = Endpoints(host_identity(), tcp, f"ipc://{self._path}")

    def _bind_tcp(self, host: str, advertise: str) -> str:
        self._doorkeeper = Doorkeeper(self._context, {self._keys.client_public})
        self._pull.curve_server = True
        self._pull.curve_secretkey = self._keys.server_secret
        self._pull.curve_publickey = self._keys.server_public
        self._pull.ipv6 = ":" in host
        port = self._pull.bind_to_random_port(f"tcp://[{host}]" if ":" in host else f"tcp://{host}")
        shown = advertise or host
        return f"tcp://[{shown}]:{port}" if ":" in shown else f"tcp://{shown}:{port}"

    def connect(self, rank: int, target: Endpoints) -> None:
        push = self._context.socket(zmq.PUSH)
        push.linger = LINGER_MS
        push.sndhwm = MESSAGES_QUEUED_MAX
        monitor = watch(push, zmq.EVENT_DISCONNECTED)
        self._push[rank], self._monitors[monitor] = push, rank
        if target.host == self.endpoints.host:
            push.connect(target.ipc)
            return
        push.curve_serverkey = self._keys.server_public
        push.curve_publickey = self._keys.client_public
        push.curve_secretkey = self._keys.client_secret
        push.ipv6 = "[" in target.tcp
        push.heartbeat_ivl, push.heartbeat_timeout = 2000, 10000  # a host that is gone says nothing
        push.connect(target.tcp)

    def send(self, rank: int, header: bytes, payload: bytes | memoryview) -> bool:
        """Copies both; False when there is no room now."""
        try:
            self._push[rank].send(header, zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._push[rank].send(payload, zmq.NOBLOCK)  # the rest of a message always has room
        return True

    def take(self) -> Iterator[tuple[memoryview, memoryview]]:
        """Messages that have arrived: header and payload."""
        for _ in range(MESSAGES_AT_ONCE):
            try:
                frames = self._pull.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if len(frames) == 2:
                yield frames[0].buffer, frames[1].buffer

    def wait(self, wake: int, full: list[int], seconds: float | None) -> None:
        """Until a message is here, `wake` rings, a `full` rank has room, or one disconnects."""
        awaited: list[tuple[Any, int]] = [(self._pull, zmq.POLLIN), (wake, zmq.POLLIN)]
        awaited += [(monitor, zmq.POLLIN) for monitor in self._monitors]
        awaited += [(self._push[rank], zmq.POLLOUT) for rank in full if rank in self._push]
        milliseconds = -1 if seconds is None else int(seconds * 1000) + 1 if seconds else 0
        for ready, _ in zmq.zmq_poll(awaited, milliseconds):
            if ready in self._monitors:
                ready.recv_multipart()
                self._ended.add(self._monitors[ready])

    def disconnected(self) -> set[int]:
        """Ranks whose connection has ended since this was asked last."""
        ended, self._ended = self._ended, set()
        return ended

    def close(self) -> None:
        """What was sent has LINGER_MS to go out."""
        self._pull.close(linger=0)
        for push in self._push.values():
            push.monitor(None, 0)
            push.close(linger=LINGER_MS)
        for monitor in self._monitors:
            monitor.close(linger=0)
        self._context.term()
        self._path.unlink(missing_ok=True)
        if self._doorkeeper is not None:
            self._doorkeeper.join()
