"""Which copy between a device and the host goes when, and from which buffer. Pure.

"Far" is the device's memory, "near" the host's. A device has three queues, each in order: the one
in which its program computes, one of copies out and one of copies back in. What must wait for what
in another queue is said by events; only `finish` makes the host itself wait.

    compute ──mark──► out: chunk 0, 1, 2, …            (all queued at once)
                           │ finish(0), work on it, finish(1), …   the host, chunk by chunk
                           ▼
                      in:  chunk 0, 1, …  ──event──► compute goes on
"""

import ctypes
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Near = NDArray[Any]
Far = Any  # a flat tensor: it has a length and can be sliced
Event = Any

CHUNK_BYTES = 4 << 20
SLOTS = 3  # chunks of results that may be on their way back in while the next is worked on
BUFFER_BYTES_MIN = 1 << 16


class Device(Protocol):
    """p2p.devices.cuda has the real one. None of these but `finish` waits."""

    def mark(self) -> Event:
        """When all that its program has queued up to now is done."""

    def copy_out(self, far: Far, near: Near, after: Event) -> Event:
        """Queue a copy, not before `after`. `near` must be as long as `far`, of the same width."""

    def copy_in(self, near: Near, far: Far, after: Event) -> Event: ...

    def finish(self, event: Event) -> None:
        """Wait on the host."""

    def is_done(self, event: Event) -> bool: ...

    def memory(self, size: int) -> NDArray[np.uint8]:
        """Near memory that copies reach without the processor's help."""


def chunks(count: int, width: int, chunk_bytes: int = CHUNK_BYTES) -> list[slice]:
    """`count` values of `width` bytes in equal parts of at most `chunk_bytes`; one at least."""
    parts = max(1, -(-count * width // chunk_bytes))
    ends = [count * number // parts for number in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


class Buffers:
    """Near memory by size, used again as soon as nobody has a view of it any more and the last copy
    from or to it is done."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._free: dict[int, deque[Room]] = {}

    def take(self, size: int) -> "Buffer":
        """Of at least so many bytes; a new one when all others are still in use."""
        step = max(BUFFER_BYTES_MIN, 1 << max(0, size.bit_length() - 4))
        rounded = max(1, -(-size // step)) * step  # an eighth too much at most
        free = self._free.setdefault(rounded, deque())
        for _ in range(len(free)):
            try:
                room = free.popleft()
            except IndexError:  # another thread took it
                break
            if room.until is None or self._device.is_done(room.until):
                return Buffer(room, free)
            free.append(room)
        return Buffer(Room(self._device.memory(rounded)), free)


@dataclass(eq=False, slots=True)
class Room:
    """`until` = the last copy from or to it."""

    memory: NDArray[np.uint8]
    until: Event = None


class Buffer:
    """One use of a room: it ends when this and all arrays of it are gone."""

    def __init__(self, room: Room, free: deque[Room]) -> None:
        self._room = room
        owner = (ctypes.c_char * len(room.memory)).from_buffer(room.memory.data)
        self.memory = np.frombuffer(memoryview(owner), np.uint8)
        weakref.finalize(owner, free.append, room).atexit = False

    @property
    def until(self) -> Event:
        return self._room.until

    @until.setter
    def until(self, event: Event) -> None:
        self._room.until = event

    def array(self, count: int, dtype: Any) -> Near:
        return self.memory[: count * np.dtype(dtype).itemsize].view(dtype)


class Passage:
    """A far array on its way through near memory, worked on chunk by chunk, and back.

    Made by the thread that calls the operation: the copies out are queued at once. The rest by one
    that may wait.
    """

    def __init__(
        self,
        device: Device,
        buffers: Buffers,
        far: Far,
        dtype: Any,
        chunk_bytes: int = CHUNK_BYTES,
        slots: int = SLOTS,
    ) -> None:
        self._device, self._buffers, self._far = device, buffers, far
        width = np.dtype(dtype).itemsize
        self._parts = chunks(len(far), width, chunk_bytes)
        self._kept = buffers.take(len(far) * width)
        self._near = self._kept.array(len(far), dtype)
        self._slots = min(slots, len(self._parts))
        self._start = device.mark()
        self._out = [
            device.copy_out(far[part], self._near[part], self._start) for part in self._parts
        ]
        self._kept.until = self._out[-1]
        self._written = 0

    def rounds(self, *, writes: bool = True) -> Iterator[tuple[Near, Near]]:
        """Every chunk: its values, and where the result goes, which is copied back in when the next
        is asked for (unless `writes` is False). The values stay as they are for `restore`."""
        device = self._device
        results: list[Buffer] = []
        longest = max(part.stop - part.start for part in self._parts)
        for number, part in enumerate(self._parts):
            if len(results) < self._slots:
                results.append(self._buffers.take(longest * self._near.itemsize))
            slot = results[number % self._slots]
            if slot.until is not None:
                device.finish(slot.until)  # the host is about to write where a copy still reads
            device.finish(self._out[number])
            result = slot.array(part.stop - part.start, self._near.dtype)
            yield self._near[part], result
            if writes:
                slot.until = device.copy_in(result, self._far[part], self._start)
                self._written = number + 1

    def restore(self) -> None:
        """Give the far array the values back that it had; not all rounds have been."""
        for part in self._parts[: self._written]:
            self._kept.until = self._device.copy_in(self._near[part], self._far[part], self._start)
