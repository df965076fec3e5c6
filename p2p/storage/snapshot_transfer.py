"""How a snapshot's file travels to one peer: what is said, and what to send next. Pure.

The leader's core says MsgSnap, which names a snapshot but does not carry it. Its host sends the
file in chunks; the receiver's host hands MsgSnap to its own core when it has the whole file. A
transfer begins with a question (a chunk without data), so that a receiver that has a part of this
very file, from before a restart or from another leader, goes on from there. Chunks are numbered by
their offset and acknowledged by how much the receiver holds without a gap. At most WINDOW_BYTES
are on their way, so no heartbeat ever queues behind more than that.

A lost chunk is noticed by silence only, then the sender asks again and goes back to what it is
told. Going back on a repeated acknowledgement instead would repeat chunks for ever once the network
duplicates one message (RFC 1123 §4.2.3.1, "sorcerer's apprentice syndrome").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consensus.changes import SnapshotMeta
from consensus.messages import Message, MessageType
from consensus.wire import MalformedMessage, as_bool, as_bytes, as_uint

CHUNK_BYTES = 128 * 1024
WINDOW_BYTES = 2 * CHUNK_BYTES
ASK_AGAIN_S = 1.0  # after so long a silence
STALLED_S = 10.0  # without a further byte: given up


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of the file from `offset` on; without any it asks how far the receiver is.

    `message` is the MsgSnap that the receiver shall step when it has all `total` bytes.
    """

    message: Message
    total: int
    offset: int
    data: bytes

    @property
    def meta(self) -> SnapshotMeta:
        assert self.message.snapshot is not None  # checked by from_wire
        return self.message.snapshot

    def to_wire(self) -> dict[str, Any]:
        return {
            "message": self.message.to_wire(),
            "total": self.total,
            "offset": self.offset,
            "data": self.data,
        }

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> "Chunk":
        """Raises MalformedMessage."""
        message = Message.from_wire(body.get("message"))
        if message.type is not MessageType.SNAP or message.snapshot is None:
            raise MalformedMessage("a chunk of a snapshot comes with a MsgSnap")
        chunk = cls(
            message,
            as_uint(body.get("total"), "total"),
            as_uint(body.get("offset"), "offset"),
            as_bytes(body.get("data"), "data"),
        )
        if chunk.offset + len(chunk.data) > chunk.total or message.snapshot.index == 0:
            raise MalformedMessage("a chunk beyond the end of its snapshot")
        return chunk


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receiver holds `have` bytes of the snapshot at `index` without a gap.

    answer: a question was answered, so less than before means that it lost some. done: the file is
    complete and sound, or not needed any more. damaged: it was complete but not sound.
    """

    index: int
    have: int
    answer: bool = False
    done: bool = False
    damaged: bool = False

    def to_wire(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "have": self.have,
            "answer": self.answer,
            "done": self.done,
            "damaged": self.damaged,
        }

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> "Receipt":
        """Raises MalformedMessage."""
        return cls(
            as_uint(body.get("index"), "index"),
            as_uint(body.get("have"), "have"),
            *(as_bool(body.get(name), name) for name in ("answer", "done", "damaged")),
        )


class Transfer:
    """One snapshot on its way to one peer, as its sender sees it.

    Ask next_send() what may leave now and tell sent(); tell every receipt and, now and then, the
    time.
    """

    def __init__(self, message: Message, total: int, now_s: float) -> None:
        assert message.snapshot is not None
        self.message = message
        self.meta = message.snapshot
        self.total = total
        self._have = -1  # what the receiver was last known to hold
        self._next = 0
        self._must_ask = True
        self._is_asking = True
        self._said_s = now_s
        self._moved_s = now_s

    def next_send(self) -> tuple[int, int] | None:
        """(offset, bytes) of the next chunk, (0, 0) for the question, None to wait."""
        if self._is_asking:
            return (0, 0) if self._must_ask else None
        count = min(CHUNK_BYTES, self.total - self._next)
        return (self._next, count) if count and self._next - self._have < WINDOW_BYTES else None

    def sent(self, offset: int, count: int, now_s: float) -> None:
        """What next_send() said has left."""
        self._said_s = now_s
        if count:
            self._next = offset + count
        else:
            self._must_ask = False

    def on_receipt(self, receipt: Receipt, now_s: float) -> None:
        """A receipt for this snapshot, which may be old or repeated."""
        have = min(receipt.have, self.total)
        if have > self._have:
            self._moved_s = self._said_s = now_s
        if receipt.answer:  # it knows best, also when it lost some
            self._is_asking = self._must_ask = False
            self._have = self._next = have
        elif have > self._have:
            self._have, self._next = have, max(self._next, have)

    def is_alive_at(self, now_s: float) -> bool:
        """Asks again after silence; False when it stalled and shall be given up."""
        if now_s - self._said_s >= ASK_AGAIN_S:
            self._is_asking = self._must_ask = True
            self._said_s = now_s
        return now_s - self._moved_s < STALLED_S
