"""The sockets between a trainer that gives and those that follow it, beside the data plane.

A ROUTER of its own, on a thread of its own and with a ZeroMQ context of its own: by ipc in the same
private directory as the data plane, by TCP with the same keys. Frames: a question is one msgpack
map; an answer is a msgpack map, which repeats the question's "id", and a payload.
"""

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgpack
import zmq

from collectives.plane import CurveKeys, Endpoints
from collectives.zap import Doorkeeper
from p2p.training.giver import PIECE_BYTES, Answer, Giver

QUESTION_BYTES_MAX = 4096
ANSWER_BYTES_MAX = PIECE_BYTES + (8 << 20)  # a head has the optimizer's counters and metrics
ANSWERED_WITHIN_S = 5.0
LAST_WORD_MS = 100
TCP, IPC = "giver_tcp", "giver_ipc"  # beside the data plane's endpoints


class Lost(Exception):
    """The giver does not answer, or not as a giver does."""


class Interrupted(Exception):
    """The peer said something: there may be better to do than to follow."""


class Link(Protocol):
    """A follower's way to one giver. Answers come in the order of the questions."""

    def ask(self, **question: Any) -> None:
        """Leaves at once; several may be on their way."""

    def answer(self) -> Answer:
        """To the oldest question that has none. Raises Lost, Interrupted."""

    def forget(self) -> None:
        """Nobody waits for the answers that are still to come."""

    def close(self) -> None: ...


class GiverSocket:
    """Listens at once; `endpoints` are to be told with those of the data plane."""

    def __init__(self, giver: Giver, bind_host: str, ipc_dir: str, keys: CurveKeys) -> None:
        self._giver = giver
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._doorkeeper = Doorkeeper(self._context, {keys.client_public})
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.maxmsgsize = QUESTION_BYTES_MAX
        self._ipc_path = str(Path(ipc_dir).absolute() / f"{secrets.token_hex(4)}.give")
        self._socket.bind(f"ipc://{self._ipc_path}")  # plain: the directory's mode guards it
        self._socket.curve_server = True
        self._socket.curve_secretkey = keys.server_secret
        self._socket.curve_publickey = keys.server_public
        self._socket.ipv6 = ":" in bind_host
        where = f"tcp://[{bind_host}]" if ":" in bind_host else f"tcp://{bind_host}"
        self._port = self._socket.bind_to_random_port(where)
        self._thread = threading.Thread(target=self._serve, name="giver", daemon=True)
        self._thread.start()

    def endpoints(self, beside: Endpoints) -> dict[str, str]:
        """On the same host as the data plane's."""
        host = beside.tcp.rpartition(":")[0]
        return {TCP: f"{host}:{self._port}", IPC: f"ipc://{self._ipc_path}"}

    def link(self, address: str, news: int, keys: CurveKeys) -> "SocketLink":
        """To another trainer's. Close it before this one. Raises Lost."""
        return SocketLink(self._context, address, news).connect(keys)

    def close(self) -> None:
        self._context.term()
        self._thread.join()
        self._doorkeeper.join()
        Path(self._ipc_path).unlink(missing_ok=True)

    def _serve(self) -> None:
        try:
            while True:
                frames = self._socket.recv_multipart()
                if len(frames) == 2:
                    self._reply(*frames)
        except zmq.ContextTerminated:
            pass
        finally:
            self._socket.close(linger=0)

    def _reply(self, who: bytes, frame: bytes) -> None:
        try:
            question = msgpack.unpackb(frame)
            head, payload = self._giver.answer(who.hex(), question)
            told = msgpack.packb({**head, "id": int(question["id"])})
        except (KeyError, TypeError, ValueError, msgpack.UnpackException):
            return  # no question: whoever asked so gets no answer
        self._socket.send_multipart([who, told, payload])


class SocketLink:
    """A Link over ZeroMQ. `news` = a file that becomes readable when `answer` shall be interrupted;
    -1 = nothing interrupts."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", address: str, news: int) -> None:
        """Raises Lost for what is no address."""
        self.news = news
        self._asked: deque[int] = deque()
        self._number = 0
        self._socket = context.socket(zmq.DEALER)
        self._socket.linger = LAST_WORD_MS
        self._socket.maxmsgsize = ANSWER_BYTES_MAX
        self._address = address

    def connect(self, keys: CurveKeys) -> "SocketLink":
        try:
            if self._address.startswith("tcp://"):
                self._socket.curve_serverkey = keys.server_public
                self._socket.curve_publickey = keys.client_public
                self._socket.curve_secretkey = keys.client_secret
                self._socket.ipv6 = "[" in self._address
            self._socket.connect(self._address)
        except zmq.ZMQError as error:
            self.close()
            raise Lost(f"{self._address} is no address: {error}") from error
        return self

    def ask(self, **question: Any) -> None:
        self._number += 1
        self._asked.append(self._number)
        frame = msgpack.packb({**question, "id": self._number})
        with contextlib.suppress(zmq.Again):  # so many unsent: it does not answer, see below
            self._socket.send(frame, zmq.NOBLOCK)

    def answer(self) -> Answer:
        until = time.monotonic() + ANSWERED_WITHIN_S
        while True:
            rest_ms = int(1000 * (until - time.monotonic()))
            if rest_ms <= 0:
                raise Lost(f"{self._address} does not answer")
            awaited: list[tuple[Any, int]] = [(self._socket, zmq.POLLIN)]
            if self.news >= 0:
                awaited.append((self.news, zmq.POLLIN))
            ready = dict(zmq.zmq_poll(awaited, rest_ms))
            if self.news in ready:
                raise Interrupted
            if ready:
                head, payload = _parsed(self._socket.recv_multipart())
                if self._asked and head.get("id") == self._asked[0]:
                    self._asked.popleft()
                    return head, payload

    def forget(self) -> None:
        self._asked.clear()

    def close(self) -> None:
        self._socket.close()


def address_of(endpoints: Mapping[str, Any], here: Endpoints) -> str | None:
    """How to reach the giver with these endpoints from `here`; None where there is none."""
    try:
        other = Endpoints.from_wire(endpoints)
    except ValueError:
        return None
    near = other.host == here.host and Path(str(endpoints.get(IPC))[len("ipc://") :]).exists()
    address = endpoints.get(IPC if near else TCP)
    return address if isinstance(address, str) else None


def _parsed(frames: list[bytes]) -> Answer:
    """Raises Lost."""
    try:
        frame, payload = frames
        head = msgpack.unpackb(frame)
        if not isinstance(head, dict):
            raise ValueError("no map")
    except (ValueError, msgpack.UnpackException) as error:
        raise Lost(f"an answer that is none: {error!r}") from error
    return head, memoryview(payload)
