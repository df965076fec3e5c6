"""A connection between two ranks that carries records, without ever waiting.

Payloads go from where they lie into the kernel and from the kernel to where they belong; only what
is sealed passes through a piece of memory on the way. A connection that ends is a lost rank, told
after all that the rank has sent was read.
"""

import socket

from collectives.errors import LostPeer
from collectives.records import RECORD_BYTES, Record, Seal


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
        self._sealed = memoryview(bytearray())  # what we send
        self._opening = memoryview(bytearray())  # what comes, as it comes
        self._head = memoryview(bytearray(RECORD_BYTES + (inward.extra if inward else 0)))
        self._got = 0  # bytes of the header, or of the payload

    def fileno(self) -> int:
        return self._socket.fileno()

    # Out.

    @property
    def busy(self) -> bool:
        """Whether something that was begun has not gone out yet."""
        return bool(self._pending)

    def begin(self, record: Record, payload: memoryview) -> None:
        """Send this with `flush`. Only when not busy; `payload` must not change before it is done.

        payload: `record.length` bytes.
        """
        if self._outward is None:
            self._pending = (
                [memoryview(record.pack()), payload] if payload else [memoryview(record.pack())]
            )
            return
        head_end = RECORD_BYTES + self._outward.extra
        end = head_end + (len(payload) + self._outward.extra if payload else 0)
        if len(self._sealed) < end:
            self._sealed = memoryview(bytearray(end))
        self._outward.close(record.pack(), self._sealed[:head_end])
        if payload:
            self._outward.close(payload, self._sealed[head_end:end])
        self._pending = [self._sealed[:end]]

    def flush(self) -> bool:
        """Whether nothing is left. Raises LostPeer."""
        while self._pending:
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
            return self._fill(into)
        length = len(into) + self._inward.extra
        if len(self._opening) < length:
            self._opening = memoryview(bytearray(length))
        if not self._fill(self._opening[:length]):
            return False
        self._inward.open(self._opening[:length], into)
        return True

    def _fill(self, into: memoryview) -> bool:
        """With a payload, and with what is already here of the next header."""
        while self._got < len(into):
            if not self._read([into[self._got :], self._head]):
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
        self._pending.clear()
        self._socket.close()
