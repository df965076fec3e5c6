"""Where the higher ranks of a generation connect, and how it is found out that they are they."""

import contextlib
import hmac
import secrets
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

import zmq

from collectives.errors import Aborted, LostPeer, OutOfStep
from collectives.links import Links
from collectives.offers import HELLO, PASSWORD_BYTES, WELCOME, Offer
from collectives.wire import Wire

STRANGERS_MAX = 64  # connections at a time that have not proved yet who they are
RANK = struct.Struct("!H")  # what comes over a connection first, and is never sealed


class Listener:
    """A socket for ranks on this host (`near`) or on others. Raises Aborted when there is none."""

    def __init__(self, links: Links, *, near: bool) -> None:
        self.address: int | str = f"{links.site.folder}/{secrets.token_hex(4)}.wire" if near else 0
        try:
            if isinstance(self.address, str):
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.bind(self.address)
            else:
                self._socket = _bound(links.site.host)
                self.address = int(self._socket.getsockname()[1])
            self._socket.listen(STRANGERS_MAX)
        except OSError as error:
            raise Aborted(f"cannot listen for the other ranks: {error}") from error
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> socket.socket | None:
        with contextlib.suppress(OSError):
            return self._socket.accept()[0]
        return None

    def close(self) -> None:
        self._socket.close()
        if isinstance(self.address, str):
            Path(self.address).unlink(missing_ok=True)


def _bound(host: str) -> socket.socket:
    found = socket.getaddrinfo(
        None if host == "*" else host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listening = socket.socket(found[0][0])
    listening.bind(found[0][4])
    return listening


class Guest:
    """A connection that has not proved yet which rank it is."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._wire: Wire | None = None
        self._greeted = False
        self._password = memoryview(bytearray(PASSWORD_BYTES))

    def fileno(self) -> int:
        return self._socket.fileno()

    def prove(self, expected: Mapping[int, Offer]) -> Wire | None:
        """Its wire as soon as it is one of the expected ranks; None before.

        Raises LostPeer or OutOfStep when it is none of them: close it.
        """
        if self._wire is None:
            try:
                data = self._socket.recv(RANK.size)
            except BlockingIOError:
                return None
            except OSError as error:
                raise OutOfStep("the connection broke") from error
            rank = RANK.unpack(data)[0] if len(data) == RANK.size else -1
            if rank not in expected:
                raise OutOfStep("this rank is not expected")
            self._wire = Wire(rank, self._socket, *expected[rank].seals())
        if not self._greeted:
            if (record := self._wire.next()) is None:
                return None
            if record != HELLO:
                raise OutOfStep("this is no greeting")
            self._greeted = True
        if not self._wire.take(self._password):
            return None
        offer = expected.get(self._wire.rank)  # None: that rank has come already
        if offer is None or not hmac.compare_digest(self._password, offer.password):
            raise OutOfStep("this is not the password")
        return self._wire

    def close(self) -> None:
        self._socket.close()


def receive(
    links: Links, offers: Mapping[int, Offer], listeners: list[Listener]
) -> dict[int, Wire]:
    """Wires to all to whom something was offered, once all are here. Raises what links raise."""
    expected, wires = dict(offers), dict[int, Wire]()
    guests: list[Guest] = []
    try:
        while expected:
            for listener in listeners:
                if (connection := listener.accept()) is not None:
                    guests.append(Guest(connection))
            for guest in list(guests):
                _admit(guest, guests, expected, wires)
            while len(guests) > STRANGERS_MAX:
                guests.pop(0).close()
            if expected:
                files: list[Listener | Guest] = [*listeners, *guests]
                watched = [(file.fileno(), zmq.POLLIN) for file in files]
                links.progress(tuple(expected), files=watched)
        return wires
    except BaseException:
        for wire in wires.values():
            wire.end()
        raise
    finally:
        for guest in guests:
            guest.close()


def _admit(
    guest: Guest, guests: list[Guest], expected: dict[int, Offer], wires: dict[int, Wire]
) -> None:
    try:
        wire = guest.prove(expected)
        if wire is None:
            return
        wire.begin(WELCOME, memoryview(b""))
        wire.flush()  # there is room: it is the first that is sent
    except (LostPeer, OutOfStep):
        guest.close()
    else:
        del expected[wire.rank]
        wires[wire.rank] = wire
    guests.remove(guest)
