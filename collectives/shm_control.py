"""What a rank tells the others of its generation: how far it is, and where its data lies.

Every rank has one control segment per generation, which it alone writes. Its first word says how
many steps (collectives/shm_plan.py) it has completed. The others sleep on that word, a futex, until
it has reached what they wait for. What belongs to a step is written before the step is published: a
notice that describes the operation, staged data, results.

Nothing is overwritten that somebody may still read. What is staged in a step, and what results from
it, is read in the next. In step s a rank waits until all others have completed step s - 1, but not
in the first step of an operation; so when it stages something, before it waits, it knows that they
have completed s - 3, and with it what read the slots of s - 4. Hence four slots, used in turn, and
two notices: an operation has at least two steps.

ABANDONED in the word says that the rank has left, in the midst of an operation or between two. It
is set before the rank's caller gets its arrays back, so a reader that finds the word without it
after it has read has read what was meant.
"""

import os
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collectives import futex
from collectives.shm_memory import Place
from collectives.shm_plan import CHUNK_BYTES, WHOLE_BYTES_MAX
from collectives.shm_segments import Location, Mapping, Segment

ABANDONED = 1 << 31
_STEPS = ABANDONED - 1

_IDENTITY = struct.Struct("=8sQQQ16s")  # job, generation, rank, ranks, nonce
_NOTICE = struct.Struct("=QQ 7Q 7Q")
RANKS_MAX = 128  # whose counts have room
_IDENTITY_AT, _NOTICES_AT, _COUNTS_AT, _SLOTS_AT = 64, (256, 512), (1024, 2048), 4096
_SLOTS = 4
_PAGE = 4096


def _result_bytes(size: int) -> int:
    """Room for one rank's segment of a chunk, and for what is combined whole."""
    return -(-max(CHUNK_BYTES // size + _PAGE, WHOLE_BYTES_MAX) // _PAGE) * _PAGE


def _control_bytes(size: int) -> int:
    return _SLOTS_AT + _SLOTS * (CHUNK_BYTES + _result_bytes(size))


def _staged_at(step: int) -> int:
    return _SLOTS_AT + step % _SLOTS * CHUNK_BYTES


def _result_at(step: int, size: int) -> int:
    return _SLOTS_AT + _SLOTS * CHUNK_BYTES + step % _SLOTS * _result_bytes(size)


@dataclass(frozen=True, slots=True)
class Membership:
    """Whose control segment it is: a rank of one generation, and of one attempt to form it."""

    job: bytes  # 8 bytes
    generation: int
    rank: int
    size: int

    def pack(self, nonce: bytes) -> bytes:
        return _IDENTITY.pack(self.job, self.generation, self.rank, self.size, nonce)


@dataclass(frozen=True, slots=True)
class Notice:
    """One rank's part in one operation."""

    kind: int  # what it believes the operation to be, see frames.fingerprint()
    source: Place | None  # None: staged
    out: Place | None = None  # where its results stay, if all ranks name such a place
    forgotten: int = 0  # how many of its segments it has closed

    def pack(self) -> bytes:
        return _NOTICE.pack(
            self.kind, self.forgotten, *_place_words(self.source), *_place_words(self.out)
        )

    @classmethod
    def unpack(cls, data: bytes) -> "Notice":
        kind, forgotten, *words = _NOTICE.unpack(data)
        return cls(kind, _place_of(words[:7]), _place_of(words[7:]), forgotten)


def _place_words(place: Place | None) -> tuple[int, ...]:
    if place is None:
        return (0,) * 7
    at = place.location
    return (place.number, place.offset, at.pid, at.fd, at.device, at.inode, at.size)


def _place_of(words: list[int]) -> Place | None:
    number, offset, *location = words
    return Place(number, Location(*location), offset) if number else None


def reached(word: int, steps: int) -> bool:
    """Whether progress `word` is `steps` or beyond; steps wrap, ranks are never far apart."""
    return (word - steps) & _STEPS < 1 << 30


class ControlSegment:
    """Our own. Raises OSError when the system cannot share memory."""

    def __init__(self, membership: Membership) -> None:
        nonce = secrets.token_bytes(16)
        self._segment = Segment(_control_bytes(membership.size))
        self._size = membership.size
        self._bytes = np.frombuffer(self._segment.memory, np.uint8)
        self._word = self._bytes[:4].view(np.uint32)
        self.address = self._segment.address
        identity = membership.pack(nonce)
        self._write(_IDENTITY_AT, identity)
        self.invitation = self._segment.location.pack() + nonce
        futex.wake(self.address)  # better to find out now that there is no futex

    def describe(self, operation: int, notice: Notice) -> None:
        self._write(_NOTICES_AT[operation % 2], notice.pack())

    def tell_counts(self, operation: int, counts: Sequence[int]) -> None:
        """How many elements of an ALL_TO_ALL go to each rank."""
        self._write(_COUNTS_AT[operation % 2], struct.pack(f"={len(counts)}Q", *counts))

    def staged(self, step: int, dtype: np.dtype[Any], length: int, at: int) -> NDArray[Any]:
        """Where to write what others are to read in the next step: elements from `at` on."""
        offset = _staged_at(step) + at * dtype.itemsize
        return np.frombuffer(self._segment.memory, dtype, length, offset)

    def result(self, step: int, dtype: np.dtype[Any], length: int) -> NDArray[Any]:
        """The same for what this rank has combined."""
        return np.frombuffer(self._segment.memory, dtype, length, _result_at(step, self._size))

    def publish(self, steps: int) -> None:
        """So many steps are complete."""
        futex.fence()
        self._word[0] = steps & _STEPS
        futex.wake(self.address)

    def abandon(self) -> None:
        self._word[0] |= ABANDONED
        futex.fence()
        futex.wake(self.address)

    def close(self) -> None:
        del self._bytes, self._word
        self._segment.close()

    def _write(self, at: int, data: bytes) -> None:
        self._bytes[at : at + len(data)] = np.frombuffer(data, np.uint8)


class OtherControl:
    """Another rank's control segment, and those of its segments that we have needed so far."""

    def __init__(self, membership: Membership, invitation: bytes) -> None:
        """Raises OSError when it cannot be mapped, or is not what the invitation promised."""
        self.rank = membership.rank
        location = Location.unpack(invitation[: Location.LAYOUT.size])
        nonce = invitation[Location.LAYOUT.size :]
        # First, so that it is of the very process whose memory is found afterwards.
        self.pidfd = os.pidfd_open(location.pid)
        try:
            self._mapping = Mapping(location)
        except BaseException:
            os.close(self.pidfd)
            raise
        self._size = membership.size
        self._bytes = self._mapping.array(np.dtype(np.uint8), _control_bytes(self._size), 0)
        self._word = self._bytes[:4].view(np.uint32)
        self.address = self._mapping.address
        self._segments: dict[int, Mapping] = {}
        self._forgotten = 0
        identity = self._bytes[_IDENTITY_AT : _IDENTITY_AT + _IDENTITY.size].tobytes()
        if identity != membership.pack(nonce):
            self.close()
            raise OSError(f"the memory of rank {self.rank} belongs to another generation")

    @property
    def word(self) -> int:
        """Progress, with ABANDONED. What is read afterwards is at least as new."""
        word = int(self._word[0])
        futex.fence()
        return word

    def notice(self, operation: int) -> Notice:
        at = _NOTICES_AT[operation % 2]
        notice = Notice.unpack(self._bytes[at : at + _NOTICE.size].tobytes())
        if notice.forgotten != self._forgotten:
            self._forgotten = notice.forgotten
            self._unmap()
        return notice

    def counts(self, operation: int) -> tuple[int, ...]:
        at = _COUNTS_AT[operation % 2]
        return struct.unpack(f"={self._size}Q", self._bytes[at : at + 8 * self._size].tobytes())

    def staged(self, step: int, dtype: np.dtype[Any], length: int, at: int) -> NDArray[Any]:
        return self._mapping.array(dtype, length, _staged_at(step) + at * dtype.itemsize)

    def result(self, step: int, dtype: np.dtype[Any], length: int) -> NDArray[Any]:
        return self._mapping.array(dtype, length, _result_at(step, self._size))

    def array(self, place: Place, dtype: np.dtype[Any], length: int, skip: int) -> NDArray[Any]:
        """`length` values from value `skip` on of what lies there. Raises OSError, ValueError."""
        mapping = self._segments.get(place.number)
        if mapping is None:
            mapping = self._segments[place.number] = Mapping(place.location)
        return mapping.array(dtype, length, place.offset + skip * dtype.itemsize)

    def close(self) -> None:
        self._unmap()
        del self._bytes, self._word
        self._mapping.close()
        os.close(self.pidfd)

    def _unmap(self) -> None:
        for mapping in self._segments.values():
            mapping.close()
        self._segments.clear()
