"""Control sockets, and how every socket of the peer proves the cluster's key.

One ROUTER is bound; to every other peer there is one DEALER with a monitor, whose DISCONNECTED
comes 2 ms after a kill -9. All TCP is CURVE: a stranger does not get past the first handshake
message (see p2p.wire.keys), so nothing it sends reaches this process's Python at all.
"""

import asyncio
import errno
import socket
from collections.abc import Callable

import zmq
from zmq.utils.monitor import recv_monitor_message

from collectives.monitor import watch
from p2p.errors import P2PError, Usage
from p2p.wire.addresses import DEFAULT_PORT, is_address, parse_address
from p2p.wire.envelope import ENVELOPE_BYTES_MAX
from p2p.wire.keys import ClusterKey
from p2p.wire.network import Listener, Route

PORTS_TRIED = 200
HANDSHAKE_TIMEOUT_MS = 3_000
RECONNECT_MS = 20
RECONNECT_MAX_MS = 500
QUEUED_MESSAGES_MAX = 2_000
BATCH_MAX = 200  # messages taken from one socket before others get their turn


class ZmqNetwork:
    """Raises P2PError when the address cannot be bound."""

    def __init__(self, key: ClusterKey, listen: str | None, advertise: str | None) -> None:
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 4096)
        self._key = key
        self._router = self._context.socket(zmq.ROUTER)
        _limit(self._router)
        _admit(self._router, key)
        try:
            bound = _bind(self._router, listen)
            self.address = _reachable(bound, advertise)
        except P2PError:
            self._router.close(0)
            self._context.term()
            raise
        self.bound = bound
        self.bind_host = _resolve(parse_address(bound)[0])
        self._links: dict[str, _Link] = {}
        self._due: set[zmq.Socket[bytes]] = set()  # those that will be read in a moment
        self._listener: Listener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, listener: Listener) -> None:
        """Begin to call `listener`, from the running event loop's thread."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._watch(self._router, self._read_router)

    def connect(self, peer: str, address: str) -> None:
        link = self._links.get(peer)
        if link is not None and link.address == address:
            return
        self.disconnect(peer)
        assert self._loop is not None, "start() first"
        try:
            link = _Link(self._context, self._key, peer, address)
        except zmq.ZMQError:
            return  # an address came from outside and may be none: that peer cannot be reached
        self._links[peer] = link
        self._watch(link.dealer, lambda: self._read_link(link))
        self._watch(link.monitor, lambda: self._read_monitor(link))

    def disconnect(self, peer: str) -> None:
        link = self._links.pop(peer, None)
        if link is not None and self._loop is not None:
            self._loop.remove_reader(_descriptor(link.dealer))
            self._loop.remove_reader(_descriptor(link.monitor))
            link.close()

    def send(self, peer: str, data: bytes) -> bool:
        link = self._links.get(peer)
        if link is None:
            return False
        try:
            link.dealer.send(data, zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._recheck(link.dealer, lambda: self._read_link(link))
        return True

    def reply(self, route: Route, data: bytes) -> None:
        try:
            self._router.send_multipart([route, data], zmq.NOBLOCK)
        except zmq.ZMQError:
            return  # whoever asked is gone or does not read
        self._recheck(self._router, self._read_router)

    def close(self) -> None:
        for peer in list(self._links):
            self.disconnect(peer)
        if self._loop is not None:
            self._loop.remove_reader(_descriptor(self._router))
        # A moment for the last answers (a drain's goodbye) to leave the socket.
        self._router.close(linger=200)
        self._context.term()

    def _watch(self, sock: "zmq.Socket[bytes]", read: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.add_reader(_descriptor(sock), read)
        self._loop.call_soon(read)

    def _recheck(self, sock: "zmq.Socket[bytes]", read: Callable[[], None]) -> None:
        """ZeroMQ's descriptor is edge-triggered and a send may swallow the edge of an arrival.

        One read at a time is on its way: every answer asks for one, and if all came, the loop would
        see nothing else before a whole flood was read.
        """
        if self._loop is not None and sock not in self._due and _has_message(sock):
            self._due.add(sock)
            self._loop.call_soon(self._read_due, sock, read)

    def _read_due(self, sock: "zmq.Socket[bytes]", read: Callable[[], None]) -> None:
        self._due.discard(sock)
        read()

    def _read_router(self) -> None:
        for _ in range(BATCH_MAX):
            if not _has_message(self._router):
                return
            frames = self._router.recv_multipart(zmq.NOBLOCK)
            if len(frames) == 2 and self._listener is not None:
                self._listener.on_message(frames[1], frames[0])
        self._recheck(self._router, self._read_router)

    def _read_link(self, link: "_Link") -> None:
        for _ in range(BATCH_MAX):
            if not _has_message(link.dealer):
                return
            data = link.dealer.recv(zmq.NOBLOCK)
            if self._listener is not None:
                self._listener.on_message(data, None)
        self._recheck(link.dealer, lambda: self._read_link(link))

    def _read_monitor(self, link: "_Link") -> None:
        while True:
            try:
                event = recv_monitor_message(link.monitor, zmq.NOBLOCK)["event"]
            except zmq.ZMQError:
                return
            if self._listener is None:
                continue
            if event == zmq.Event.HANDSHAKE_SUCCEEDED:
                link.up = True
                self._listener.on_link(link.peer, True)
            elif event == zmq.Event.DISCONNECTED and link.up:
                link.up = False
                self._listener.on_link(link.peer, False)


class _Link:
    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", key: ClusterKey, peer: str, address: str
    ) -> None:
        self.peer = peer
        self.address = address
        self.up = False
        self.dealer = dealer(context, key)
        self.monitor = watch(self.dealer)
        try:
            self.dealer.connect(f"tcp://{address}")
        except zmq.ZMQError:
            self.close()
            raise

    def close(self) -> None:
        self.dealer.monitor(None, 0)
        self.monitor.close(0)
        self.dealer.close(0)


def dealer(
    context: "zmq.Context[zmq.Socket[bytes]]",
    key: ClusterKey,
    message_bytes_max: int = ENVELOPE_BYTES_MAX,
) -> "zmq.Socket[bytes]":
    """An unconnected DEALER that proves and checks the cluster's key."""
    sock = context.socket(zmq.DEALER)
    _limit(sock)
    sock.maxmsgsize = message_bytes_max
    # Without IMMEDIATE, messages for a dead peer would queue and arrive long after they matter.
    sock.immediate = True
    sock.reconnect_ivl = RECONNECT_MS
    sock.reconnect_ivl_max = RECONNECT_MAX_MS
    sock.curve_serverkey = key.server.public
    sock.curve_publickey = key.client.public
    sock.curve_secretkey = key.client.secret
    return sock


def router(
    context: "zmq.Context[zmq.Socket[bytes]]",
    key: ClusterKey,
    host: str,
    message_bytes_max: int,
    queued_max: int,
) -> tuple["zmq.Socket[bytes]", int]:
    """A ROUTER on any free port of `host` that admits who has the cluster's key, and its port.

    Raises P2PError when it cannot be bound.
    """
    sock = context.socket(zmq.ROUTER)
    _limit(sock)
    sock.maxmsgsize = message_bytes_max
    sock.sndhwm = sock.rcvhwm = queued_max
    _admit(sock, key)
    try:
        return sock, sock.bind_to_random_port(f"tcp://{host}")
    except zmq.ZMQError as error:
        sock.close(0)
        raise P2PError(f"cannot listen on a port of {host}: {error.strerror}") from error


_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


def _has_message(sock: "zmq.Socket[bytes]") -> bool:
    """Whether a message can be received now; asking costs a third of trying in vain.

    What was received before may have closed this very socket.
    """
    return not sock.closed and bool(int(sock.get(_EVENTS)) & _POLLIN)


def _descriptor(sock: "zmq.Socket[bytes]") -> int:
    return int(sock.get(zmq.FD))


def _admit(sock: "zmq.Socket[bytes]", key: ClusterKey) -> None:
    sock.curve_server = True
    sock.curve_publickey = key.server.public
    sock.curve_secretkey = key.server.secret


def _limit(sock: "zmq.Socket[bytes]") -> None:
    sock.linger = 0
    sock.sndhwm = sock.rcvhwm = QUEUED_MESSAGES_MAX
    sock.maxmsgsize = ENVELOPE_BYTES_MAX
    sock.handshake_ivl = HANDSHAKE_TIMEOUT_MS


def _bind(router: "zmq.Socket[bytes]", listen: str | None) -> str:
    """Bind to `listen`, or to the first free port from the default on; returns HOST:PORT."""
    host, port = parse_address(listen) if listen else ("127.0.0.1", DEFAULT_PORT)
    fixed = listen is not None and ":" in listen
    for candidate in [port] if fixed else range(port, port + PORTS_TRIED):
        try:
            router.bind(f"tcp://{_resolve(host)}:{candidate or '*'}")
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE and not fixed:
                continue
            if error.errno == errno.EADDRINUSE:
                raise P2PError(
                    f"port {candidate} on {host} is in use: give another with --listen HOST:PORT"
                ) from error
            raise P2PError(f"cannot listen on {host}:{candidate}: {error.strerror}") from error
        endpoint = bytes(router.get(zmq.LAST_ENDPOINT))
        bound = endpoint.decode().rpartition(":")[2].rstrip("\0")
        return f"{host}:{bound}"
    raise P2PError(f"no free port from {port} to {port + PORTS_TRIED - 1} on {host}")


def _reachable(bound: str, advertise: str | None) -> str:
    """HOST:PORT for the others. Raises Usage when they could not know where that is."""
    host, port = bound.rpartition(":")[::2]
    if advertise is None:
        if host in ("0.0.0.0", "::"):
            raise Usage(f"--listen {bound} listens everywhere: give --advertise HOST:PORT as well")
        return bound
    told = (
        f"{parse_address(advertise)[0]}:{parse_address(advertise)[1] if ':' in advertise else port}"
    )
    if not is_address(told):
        raise Usage(f"--advertise {advertise!r} is not HOST:PORT")
    return told


def _resolve(host: str) -> str:
    """ZeroMQ binds to addresses and interfaces, not to names."""
    try:
        return socket.gethostbyname(host)
    except OSError as error:
        raise Usage(f"cannot find an address for host {host!r}") from error


def address_towards(target: str) -> str:
    """The local address from which `target` (HOST:PORT) is reached; no packet is sent."""
    host, port = parse_address(target)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port or 9))
        except OSError as error:
            raise Usage(f"cannot find a way to {target}: {error.strerror}") from error
        local: str = probe.getsockname()[0]
        return local
