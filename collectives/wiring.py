"""How the ranks of a generation connect to one another: a wire between every two, before first use.

Of two ranks the lower one listens and makes the other an offer over the links. The other connects,
says its rank and the password, and is answered: so it has not left before it was let in.
"""

import contextlib
import errno
import os
import secrets
import select
import socket
import struct
import time

import zmq

from collectives.errors import LostPeer, OutOfStep
from collectives.frames import Stream
from collectives.links import Links
from collectives.offers import HELLO, RANDOM_BYTES, WELCOME, Offer
from collectives.reception import RANK, Listener, receive
from collectives.wire import Wire

CONNECT_SECONDS_MAX = 5.0


def connect(links: Links) -> dict[int, Wire]:
    """A wire to every other rank, by rank. All ranks must call this.

    Raises what the links raise, LostPeer when a rank cannot be reached; then nothing is left.
    """
    wires: dict[int, Wire] = {}
    try:
        with contextlib.ExitStack() as stack:
            listeners: dict[bool, Listener] = {}
            offers: dict[int, Offer] = {}
            for higher in range(links.rank + 1, links.size):
                near = links.near(higher)
                if near not in listeners:
                    opened = Listener(links, near=near)
                    listeners[near] = stack.enter_context(contextlib.closing(opened))
                offers[higher] = _offer(links, higher, listeners[near])
            for lower in range(links.rank):
                wires[lower] = _dial(links, lower)
            wires |= receive(links, offers, list(listeners.values()))
        for lower in range(links.rank):
            _await_welcome(links, wires[lower])
        return wires
    except BaseException:
        for wire in wires.values():
            wire.end()
        raise


def _offer(links: Links, higher: int, listener: Listener) -> Offer:
    sealed = isinstance(listener.address, int) and not links.site.plain_tcp
    random = secrets.token_bytes(RANDOM_BYTES)
    offer = Offer.make(random, sealed=sealed, address=listener.address)
    data = offer.pack()
    links.send(higher, links.header(Stream.WIRE, 0, 0, len(data)), data)
    return offer


def _dial(links: Links, lower: int) -> Wire:
    _, frame = links.take(Stream.WIRE, lower)
    try:
        offer = Offer.unpack(frame.bytes)
    except struct.error as error:
        raise OutOfStep(f"rank {lower} does not say where it listens") from error
    if not (offer.sealed or offer.path or links.site.plain_tcp):
        raise OutOfStep(f"rank {lower} wants to send in the clear over TCP, this rank does not")
    connection = _reach(links, lower, offer)
    inward, outward = offer.seals()
    wire = Wire(lower, connection, outward, inward)
    try:
        connection.send(RANK.pack(links.rank))
        wire.begin(HELLO, memoryview(offer.password))
        wire.flush()  # there is room: it is the first that is sent
    except OSError as error:
        wire.end()
        raise LostPeer(lower, f"cannot be reached: {error.strerror}") from error
    except BaseException:
        wire.end()
        raise
    return wire


def _reach(links: Links, lower: int, offer: Offer) -> socket.socket:
    """A connection to where the offer says."""
    address: tuple[str, int] | str = offer.path
    family: int = socket.AF_UNIX
    try:
        if not offer.path:
            host = links.members[lower].tcp.removeprefix("tcp://").rpartition(":")[0].strip("[]")
            found = socket.getaddrinfo(host, offer.port, type=socket.SOCK_STREAM)
            family, address = found[0][0], (host, offer.port)
        connection = socket.socket(family)
    except OSError as error:
        raise LostPeer(lower, f"cannot be reached: {error.strerror}") from error
    try:
        connection.setblocking(False)
        _finish(links, lower, connection, connection.connect_ex(address))
    except BaseException:
        connection.close()
        raise
    return connection


def _finish(links: Links, lower: int, connection: socket.socket, error: int) -> None:
    """Wait until it is connected. `error`: of connect."""
    end = time.monotonic() + CONNECT_SECONDS_MAX
    while error == errno.EINPROGRESS:
        if (left := end - time.monotonic()) <= 0:
            error = errno.ETIMEDOUT
        elif select.select((), (connection,), (), 0)[1]:
            error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        else:
            links.progress((lower,), seconds=left, files=[(connection.fileno(), zmq.POLLOUT)])
    if error:
        raise LostPeer(lower, f"cannot be reached: {os.strerror(error)}")


def _await_welcome(links: Links, wire: Wire) -> None:
    while (answer := wire.next()) is None:
        links.progress((), files=[(wire.fileno(), zmq.POLLIN)])  # if it is gone, the wire says so
    if answer != WELCOME:
        raise OutOfStep(f"rank {wire.rank} does not answer as it should")
