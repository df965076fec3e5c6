"""A connection between two ranks that carries records, without ever waiting.

Payloads go from where they lie into the kernel and from the kernel to where they belong; only what
is sealed passes through a piece of memory on the way. A connection that ends is a lost rank, told
after all that the rank has sent was read.
"""

import socket

from collectives.errors import LostPeer
from collectives.records import RECORD_BYTES, Record, Seal

PIECE_BYTES = 256 << 10  # sealed and opened at a time: stays in a core's cache


class Wire:
    """`socket` is connected and does not block. Close it with `end`."""

    def __init__(
        self, rank: int, connection: socket.socket, outward: Seal | None, inward: Seal | None
    ) -> None:
        self.rank = rank
        self._socket = connection
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._outward, self._inward = outward, inward
        self._pending: list[memoryview] = []
        self._rest = memoryview(b"")  # of the payload: what is not sealed yet
        self._sealed = memoryview(bytearray(_room(outward, RECORD_BYTES)))  # what goes out
        self._opening = memoryview(bytearray(_room(inward, 0)))  # what comes, as it comes
        self._opened = 0  # bytes of the payload
        self._head = memoryview(bytearray(RECORD_BYTES + (inward.extra if inward else 0)))
        self._got = 0  # bytes of the header, or of the payload

    def fileno(self) -> int:
        return self._socket.fileno()

    # Out.

    @property
    def busy(self) -> bool:
        """Whether something that was begun has not gone out yet."""
        return bool(self._pending or self._rest)

    def begin(self, record: Record, payload: memoryview) -> None:
        """Send this with `flush`. Only when not busy; `payload` must not change before it is done.

        payload: `record.length` bytes.
        """
        head = record.pack()
        if self._outward is None:
            self._pending = [memoryview(head), payload] if payload else [memoryview(head)]
            return
        end = len(head) + self._outward.extra
        self._outward.close(head, self._sealed[:end])
        self._pending, self._rest = [self._sealed[:end]], payload
        if payload:
            self._seal_piece(self._outward, end)

    def _seal_piece(self, seal: Seal, at: int) -> None:
        """The next one, behind `at` bytes that have not gone out."""
        piece, self._rest = self._rest[:PIECE_BYTES], self._rest[PIECE_BYTES:]
        end = at + len(piece) + seal.extra
        seal.close(piece, self._sealed[at:end])
        self._pending = [self._sealed[:end]]

    def flush(self) -> bool:
        """Whether nothing is left. Raises LostPeer."""
        while self.busy:
            if self._outward is not None and not self._pending:
                self._seal_piece(self._outward, 0)
            try:
                sent = self._socket.sendmsg(self._pending)
            except BlockingIOError:
                return False
            except OSError as error:
                raise LostPeer(self.rank, "is gone") from error
            while self._pending and sent >= len(self._pending[0]):
                sent -= len(self._pending.pop(0))
            if self._pending:
                self._pending[0] = self._pending[0][sent:]
        return True

    # In.

    def next(self) -> Record | None:
        """The header of the next record once it is here. Raises LostPeer, OutOfStep."""
        while self._got < len(self._head):
            if not self._read([self._head[self._got :]]):
                return None
        self._got = 0
        if self._inward is None:
            return Record.unpack(self._head)
        opened = bytearray(RECORD_BYTES)
        self._inward.open(self._head, memoryview(opened))
        return Record.unpack(opened)

    def take(self, into: memoryview) -> bool:
        """Call it with the same memory, as long as the record's payload, until it is all there."""
        if not into:
            return True
        if self._inward is None:
            return self._fill(into, last=True)
        while self._opened < len(into):
            piece = into[self._opened : self._opened + PIECE_BYTES]
            sealed = self._opening[: len(piece) + self._inward.extra]
            if not self._fill(sealed, last=self._opened + len(piece) == len(into)):
                return False
            self._inward.open(sealed, piece)
            self._opened += len(piece)
        self._opened = 0
        return True

    def _fill(self, into: memoryview, *, last: bool) -> bool:
        """Behind the last piece of a payload, with what is already here of the next header."""
        while self._got < len(into):
            room = into[self._got :]
            if not self._read([room, self._head] if last else [room]):
                return False
        self._got -= len(into)
        return True

    def _read(self, into: list[memoryview]) -> bool:
        try:
            got = self._socket.recvmsg_into(into)[0]
        except BlockingIOError:
            return False
        except OSError as error:
            raise LostPeer(self.rank, "is gone") from error
        if not got:
            raise LostPeer(self.rank, "is gone")
        self._got += got
        return True

    def end(self) -> None:
        self._pending, self._rest = [], memoryview(b"")
        self._socket.close()


def _room(seal: Seal | None, head: int) -> int:
    """Bytes for a piece that is sealed, and for a header of so many before it."""
    return PIECE_BYTES + seal.extra + (head + seal.extra if head else 0) if seal else 0
