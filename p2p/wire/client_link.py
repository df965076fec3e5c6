"""A client's connection to one peer: many requests at once, each answered by its id."""

import asyncio
import contextlib
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from collectives.monitor import watch
from p2p.errors import P2PError, Refused, Unreachable, Usage
from p2p.wire.addresses import parse_address
from p2p.wire.envelope import ENVELOPE_BYTES_MAX, Envelope, Malformed, decode, encode
from p2p.wire.keys import ClusterKey
from p2p.wire.sockets import dealer

CONNECT_TIMEOUT_S = 3.0
BATCH_MAX = 64  # answers read in a row, so that whoever waits for them gets a turn

_HANDSHAKE_FAILED = (
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)


Part = dict[str, Any] | P2PError


class NoAnswer(Unreachable):
    """The request was sent; whether it arrived, and what became of it, is not known."""


class WrongKey(Refused):
    """Whoever listens there belongs to another cluster, perhaps since a peer of ours left it."""


class ClientLink:
    """One DEALER, read as its descriptor says: no task, no thread, no copy of the loop's work."""

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", key: ClusterKey, address: str
    ) -> None:
        """Raises Usage if the address is not one."""
        host, port = parse_address(address)
        self.address = address
        self.is_lost = False
        self._is_due = False  # its socket will be read in a moment
        self._key = key
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._streams: dict[str, asyncio.Queue[Part]] = {}
        self._up: asyncio.Future[None] = self._loop.create_future()
        self._refused = 0
        self._dealer = dealer(context, key)
        self._monitor = watch(self._dealer)
        try:
            self._dealer.connect(f"tcp://{host}:{port}")
        except zmq.ZMQError as error:
            self._end()
            raise Unreachable(f"no peer answers at {address}: {error.strerror}") from error
        self._watch(self._monitor, self._read_monitor)
        self._watch(self._dealer, self._read)

    async def shake_hands(self, timeout_s: float) -> None:
        """Raises Unreachable, or WrongKey if the peer does not take our key. May be awaited by
        several, again and again.
        """
        if not self._up.done():
            await asyncio.wait({self._up}, timeout=timeout_s)
        if not self._up.done():
            raise Unreachable(f"no peer answers at {self.address} within {timeout_s:.1f} s")
        self._up.result()

    async def ask(self, sender: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The body of the answer. Raises NoAnswer; Unreachable if it could not even be sent."""
        self.tell(sender, body)
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._waiting[body["id"]] = answer
        text = f"the peer at {self.address} did not answer within {timeout_s:.1f} s"
        patience = self._loop.call_later(timeout_s, _fail, answer, NoAnswer(text))
        try:
            return await answer
        finally:
            patience.cancel()
            self._waiting.pop(body["id"], None)

    def open_stream(self, sender: str, body: dict[str, Any]) -> "asyncio.Queue[Part]":
        """The parts of an answer as they come, or why no more will. Raises Unreachable."""
        parts: asyncio.Queue[Part] = asyncio.Queue()
        self.tell(sender, body)
        self._streams[body["id"]] = parts
        return parts

    def close_stream(self, id_: str) -> None:
        self._streams.pop(id_, None)

    def tell(self, sender: str, body: dict[str, Any]) -> None:
        """Send without waiting for an answer. Raises Unreachable, or Usage for what no peer takes:
        it would break the connection instead of reading it."""
        sent = encode(Envelope(self._key.cluster_id, sender, "", "request", body))
        if len(sent) > ENVELOPE_BYTES_MAX:
            most = f"a request may have {ENVELOPE_BYTES_MAX / 1e6:.1f} MB"
            raise Usage(f"this one has {len(sent) / 1e6:.1f} MB: {most}")
        if self.is_lost:
            raise Unreachable(f"the peer at {self.address} went away")
        try:
            self._dealer.send(sent, zmq.NOBLOCK)
        except zmq.ZMQError as error:  # its connection broke, or it does not read
            raise Unreachable(f"the peer at {self.address} takes no requests now") from error
        self._recheck(self._dealer, self._read)

    @property
    def is_awaited(self) -> bool:
        return bool(self._waiting or self._streams)

    def close(self) -> None:
        """Who still waits for an answer gets NoAnswer."""
        self._lose(NoAnswer(f"the connection to {self.address} was closed"))

    # -- inside ---------------------------------------------------------------------------------

    def _lose(self, problem: P2PError) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        for sock in (self._monitor, self._dealer):
            self._loop.remove_reader(int(sock.get(zmq.FD)))
        self._end()
        _fail(self._up, problem)
        with contextlib.suppress(asyncio.CancelledError):
            self._up.exception()  # perhaps nobody waits for it
        for answer in list(self._waiting.values()):
            _fail(answer, problem)
        for parts in self._streams.values():
            parts.put_nowait(problem)

    def _end(self) -> None:
        self._dealer.monitor(None, 0)
        self._monitor.close(0)
        self._dealer.close(0)

    def _watch(self, sock: Any, read: Any) -> None:
        self._loop.add_reader(int(sock.get(zmq.FD)), read)
        self._loop.call_soon(read)

    def _recheck(self, sock: Any, read: Any) -> None:
        """ZeroMQ's descriptor is edge-triggered and a send may swallow the edge of an arrival."""
        if self.is_lost or self._is_due:
            return
        if int(sock.get(zmq.EVENTS)) & zmq.POLLIN:
            self._is_due = True
            self._loop.call_soon(read)

    def _read(self) -> None:
        self._is_due = False
        if self.is_lost:
            return
        for _ in range(BATCH_MAX):
            try:
                data = self._dealer.recv(zmq.NOBLOCK)
            except zmq.ZMQError:
                return
            with contextlib.suppress(Malformed):
                reply = decode(data, self._key.cluster_id)
                if reply.kind == "reply":
                    for body in bodies_of(reply.body):
                        self._take(body)
        self._recheck(self._dealer, self._read)

    def _take(self, body: dict[str, Any]) -> None:
        id_ = str(body.get("id"))
        if id_ in self._streams:
            self._streams[id_].put_nowait(body)
        answer = self._waiting.get(id_)
        if answer is not None and not answer.done():
            answer.set_result(body)

    def _read_monitor(self) -> None:
        while not self.is_lost:
            try:
                event = recv_monitor_message(self._monitor, zmq.NOBLOCK)["event"]
            except zmq.ZMQError:
                return
            self._on_event(event)

    def _on_event(self, event: int) -> None:
        if event == zmq.Event.HANDSHAKE_SUCCEEDED:
            if not self._up.done():
                self._up.set_result(None)
        elif event == zmq.Event.CLOSED and not self._up.done():
            self._lose(Unreachable(f"no peer answers at {self.address}"))
        elif event == zmq.Event.DISCONNECTED and self._up.done():
            self._lose(NoAnswer(f"the peer at {self.address} went away"))
        elif event & _HANDSHAKE_FAILED:
            self._refused += 1
            # A peer that dies in the middle of a handshake looks the same, once.
            if self._refused == 2:
                self._lose(
                    WrongKey(
                        f"the peer at {self.address} refused our key: it belongs to another "
                        f"cluster than {self._key.cluster_id}; give that cluster's --token-file"
                    )
                )


def bodies_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """A reply is one answer, or what several streams of this client are told at once."""
    several = body.get("several")
    if several is None:
        return [body]
    if not isinstance(several, list) or not all(isinstance(each, dict) for each in several):
        raise Malformed("several answers that are none")
    return several


def _fail(future: "asyncio.Future[Any]", problem: Exception) -> None:
    if not future.done():
        future.set_exception(problem)
