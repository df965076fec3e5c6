"""The public client: ask any peer, over the same sockets for the CLI, the TUI and programs.

    client = Client(["127.0.0.1:7700"], key)
    status = await client.request("status")

A request is tried on every known peer in turn until one answers; what a peer cannot decide now
(no leader yet) is tried again until the time is up. A repeated request carries the same id, and
the cluster applies it once.
"""

import asyncio
import contextlib
import socket
import uuid
from collections.abc import Sequence
from typing import Any

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from p2p.envelope import Envelope, Malformed, decode, encode
from p2p.errors import NoQuorum, P2PError, Refused, Unreachable, from_wire
from p2p.keys import ClusterKey
from p2p.runtime_dir import find_key, running_peers
from p2p.sockets import dealer, parse_address

RETRY_PAUSE_S = 0.1
CONNECT_TIMEOUT_S = 3.0

__all__ = ["Client", "discover"]


def discover() -> tuple[list[str], ClusterKey | None]:
    """Addresses of this user's running peers on this host (one cluster), and its key."""
    peers = running_peers()
    if not peers:
        return [], None
    first = peers[0]
    return [peer.address for peer in peers if peer.cluster == first.cluster], first.key


def key_for(addresses: Sequence[str], token_key: ClusterKey | None) -> ClusterKey:
    """The key for these peers: the given one, else this user's own.

    Raises Unreachable if nothing listens there, Refused if something does and there is no key.
    """
    if token_key is not None:
        return token_key
    key = find_key(addresses)
    if key is not None:
        return key
    for address in addresses:
        with contextlib.suppress(OSError), socket.create_connection(parse_address(address), 2.0):
            raise Refused(f"no key for the peer at {address}: give --token-file, or set P2P_TOKEN")
    raise Unreachable(f"no peer answers at {', '.join(addresses)}")


class Client:
    def __init__(self, addresses: Sequence[str], key: ClusterKey, timeout_s: float = 5.0) -> None:
        self.key = key
        self.timeout_s = timeout_s
        self.id = f"client-{uuid.uuid4().hex[:8]}"
        self._known = list(dict.fromkeys(addresses))
        self._context = zmq.asyncio.Context()
        self._connection: _Connection | None = None
        self._turn = asyncio.Lock()

    @property
    def address(self) -> str:
        """The peer that answers now, or the one to be tried next."""
        return self._connection.address if self._connection else self._known[0]

    async def request(self, verb: str, /, **args: Any) -> dict[str, Any]:
        """The peer's answer. Raises Unreachable, Refused, NoQuorum, Usage or P2PError.

        Concurrent requests of one client are sent one after the other.
        """
        async with self._turn:
            return await self._request(verb, args)

    async def _request(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        body = {"id": uuid.uuid4().hex, "verb": verb, "args": args}
        deadline_s = asyncio.get_running_loop().time() + self.timeout_s
        problem: P2PError = Unreachable(f"no peer answers at {', '.join(self._known)}")
        while True:
            for address in self._order():
                try:
                    return self._learn(await self._ask(address, body, deadline_s))
                except (Unreachable, NoQuorum) as error:
                    problem = _more_telling(problem, error)
                    if isinstance(error, Unreachable):
                        self._drop()
            if asyncio.get_running_loop().time() + RETRY_PAUSE_S >= deadline_s:
                raise problem
            if isinstance(problem, Unreachable) and len(self._known) == 1:
                raise problem  # said at once; several, who answered before, may come back
            await asyncio.sleep(RETRY_PAUSE_S)

    async def close(self) -> None:
        self._drop()
        self._context.destroy(linger=0)

    def _order(self) -> list[str]:
        current = [self._connection.address] if self._connection else []
        return list(dict.fromkeys([*current, *self._known]))

    async def _ask(self, address: str, body: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        if self._connection is None or self._connection.address != address:
            self._drop()
            self._connection = await _Connection.open(self._context, self.key, address)
        left_s = deadline_s - asyncio.get_running_loop().time()
        if len(self._known) > 1:  # one that hangs must not use up the time of the others
            left_s = min(left_s, max(self.timeout_s / 3, 1.0))
        reply = await self._connection.ask(self.id, body, max(left_s, 0.05))
        if "error" in reply:
            raise from_wire(reply)
        answer = reply.get("ok")
        return answer if isinstance(answer, dict) else {}

    def _learn(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Remember the other peers a status names, to fail over to them."""
        for peer in answer.get("peers", []):
            if isinstance(peer, dict) and peer.get("state") == "alive":
                address = peer.get("address")
                if isinstance(address, str) and address not in self._known:
                    self._known.append(address)
        return answer

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Connection:
    """One DEALER to one peer, known to have shaken hands."""

    def __init__(self, address: str, sock: zmq.asyncio.Socket, key: ClusterKey) -> None:
        self.address = address
        self._sock = sock
        self._key = key
        self._lost = asyncio.Event()
        self._monitor = sock.get_monitor_socket()
        self._watcher: asyncio.Task[None] | None = None

    @staticmethod
    async def open(context: zmq.asyncio.Context, key: ClusterKey, address: str) -> "_Connection":
        host, port = parse_address(address)
        sock = dealer(context, key)  # type: ignore[arg-type]
        connection = _Connection(f"{host}:{port}", sock, key)  # type: ignore[arg-type]
        connection.address = address
        try:
            sock.connect(f"tcp://{host}:{port}")
            await asyncio.wait_for(connection._shake_hands(), CONNECT_TIMEOUT_S)
        except (TimeoutError, P2PError) as error:
            connection.close()
            if isinstance(error, P2PError):
                raise
            raise Unreachable(
                f"no peer answers at {address} within {CONNECT_TIMEOUT_S:g} s"
            ) from error
        connection._watcher = asyncio.ensure_future(connection._watch())
        return connection

    async def ask(self, sender: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        sent = encode(Envelope(self._key.cluster_id, sender, "", "request", body))
        receive = asyncio.ensure_future(self._receive(sent, body["id"]))
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            done, _ = await asyncio.wait(
                {receive, lost}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if receive in done:
                return receive.result()
        finally:
            for task in (receive, lost):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, zmq.ZMQError):
                    await task
        if self._lost.is_set():
            raise Unreachable(f"the peer at {self.address} went away")
        raise Unreachable(f"the peer at {self.address} did not answer within {timeout_s:.1f} s")

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        self._sock.disable_monitor()
        self._monitor.close(0)
        self._sock.close(0)

    async def _receive(self, sent: bytes, request: str) -> dict[str, Any]:
        await self._sock.send(sent)
        while True:
            data = await self._sock.recv()
            with contextlib.suppress(Malformed):
                reply = decode(bytes(data), self._key.cluster_id)
                if reply.kind == "reply" and reply.body.get("id") == request:
                    return reply.body

    async def _shake_hands(self) -> None:
        refused = 0
        while True:
            event = parse_monitor_message(await self._monitor.recv_multipart())["event"]
            if event == zmq.Event.HANDSHAKE_SUCCEEDED:
                return
            if event == zmq.Event.CLOSED:
                raise Unreachable(f"no peer answers at {self.address}")
            if event & _HANDSHAKE_FAILED:
                refused += 1
                # A peer that dies in the middle of a handshake looks the same, once.
                if refused == 2:
                    raise Refused(
                        f"the peer at {self.address} refused our key: it belongs to another "
                        f"cluster than {self._key.cluster_id}; give that cluster's --token-file"
                    )

    async def _watch(self) -> None:
        while True:
            event = parse_monitor_message(await self._monitor.recv_multipart())["event"]
            if event == zmq.Event.DISCONNECTED:
                self._lost.set()
                return


_HANDSHAKE_FAILED = (
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)


def _more_telling(old: P2PError, new: P2PError) -> P2PError:
    """A peer that answered "no leader" says more than one that did not answer."""
    return old if isinstance(old, NoQuorum) and isinstance(new, Unreachable) else new
