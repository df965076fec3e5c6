"""What the members of one generation do together: reduce, gather, and send to one another."""

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zmq

from collectives.frames import Header, Stream, fingerprint
from collectives.ring import AllReduce, Chunk, Memory, OutOfOrder, Phase, Send

if TYPE_CHECKING:
    from collectives.plane import DataPlane, Endpoints

CHUNK_BYTES = 512 << 10
ZERO_COPY_BYTES_MIN = 64 << 10  # below, copying is cheaper than telling when the bytes are free
PAYLOAD_BYTES_MAX = 1 << 20  # of all_gather

Array = np.ndarray[Any, Any]
Arrival = tuple[Header, zmq.Frame]


class Aborted(Exception):
    """The generation is over, or its data is incomplete. The operation's input is untouched."""


class OutOfStep(Aborted):
    """What arrived does not fit: data was lost with a connection, or ranks do different things."""


class Ring:
    """One generation as seen by one rank. Made by `DataPlane.enter`; every member calls the same
    collectives in the same order.

    After any return, and after Aborted, nobody reads the arrays that were passed in.
    """

    def __init__(
        self,
        plane: "DataPlane",
        job: bytes,
        generation: int,
        rank: int,
        members: Sequence["Endpoints"],
    ) -> None:
        self.rank, self.size, self.generation, self.job = rank, len(members), generation, job
        self._plane = plane
        self._members = tuple(members)
        self._push: dict[int, zmq.Socket[bytes]] = {}
        self._queues: defaultdict[tuple[Stream, int], deque[Arrival]] = defaultdict(deque)
        self._sequences: defaultdict[tuple[Stream, int, int], int] = defaultdict(int)
        self._trackers: deque[zmq.MessageTracker] = deque()

    def all_reduce(self, source: Array, out: Array, op: Literal["sum", "max"]) -> None:
        """out = the sum (or maximum) of every rank's `source`, element by element."""
        ufunc = {"sum": np.add, "max": np.maximum}[op]
        _check_arrays(source, out)
        source, out = source.reshape(-1), out.reshape(-1)
        if self.size == 1:
            self._plane.check(self.generation)
            np.copyto(out, source)
            return
        machine = AllReduce(
            self.rank, self.size, len(source), max(1, CHUNK_BYTES // source.itemsize)
        )
        kind = fingerprint("all_reduce", op, source.dtype.str, len(source), self.size)
        sequence = self._begin(Stream.COLLECTIVE)
        right = (self.rank + 1) % self.size
        outbox: deque[tuple[Send, zmq.Frame | None]] = deque((s, None) for s in machine.start())
        while True:
            while outbox:
                send, arrived = outbox[0]
                payload = arrived if arrived is not None else _bytes_of(send, source, out)
                if not self._send(right, self._header(sequence, send.chunk, kind), payload):
                    break
                outbox.popleft()
            if machine.done and not outbox:
                break
            arrival = self._take(Stream.COLLECTIVE, sequence, kind, right if outbox else None)
            if arrival is None:
                continue
            header, frame = arrival
            chunk, onward = _next_chunk(machine, header)
            values = _values(frame, chunk, source.dtype)
            at = slice(chunk.start, chunk.stop)
            if chunk.phase is Phase.REDUCE:
                ufunc(source[at], values, out=out[at])
            else:
                out[at] = values
            if onward is not None:
                outbox.append((onward, frame if onward.memory is Memory.ARRIVED else None))
        self._settle()

    def all_gather(self, payload: bytes) -> list[bytes]:
        """Every rank's payload, by rank. For small things: at most PAYLOAD_BYTES_MAX each."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise ValueError(
                f"all_gather takes at most {PAYLOAD_BYTES_MAX} bytes, not {len(payload)}"
            )
        self._plane.check(self.generation)
        sequence = self._begin(Stream.COLLECTIVE)
        kind = fingerprint("all_gather", self.size)
        gathered = {self.rank: bytes(payload)}
        for step in range(self.size - 1):
            passing = gathered[(self.rank - step) % self.size]
            chunk = Chunk(Phase.GATHER, step, 0, 0, len(passing))
            header = self._header(sequence, chunk, kind)
            while not self._send((self.rank + 1) % self.size, header, passing):
                self._plane.wait(self.generation, self._push[(self.rank + 1) % self.size])
            arrival = self._take(Stream.COLLECTIVE, sequence, kind, None)
            assert arrival is not None
            gathered[(self.rank - step - 1) % self.size] = arrival[1].bytes
        return [gathered[rank] for rank in range(self.size)]

    def send(self, to: int, payload: memoryview | bytes) -> None:
        """Give `to`, which calls `receive`, these bytes; any number of them."""
        data = memoryview(payload).cast("B")
        sequence = self._sequences[Stream.DIRECT, self.rank, to]
        self._sequences[Stream.DIRECT, self.rank, to] += 1
        for index, at in enumerate(range(0, max(1, len(data)), CHUNK_BYTES)):
            header = Header(
                *(self.job, self.generation, sequence, self.rank, Stream.DIRECT),
                *(0, 0, index, fingerprint("send"), len(data)),
            )
            while not self._send(to, header, data[at : at + CHUNK_BYTES]):
                self._plane.wait(self.generation, self._push[to])
                while self._plane.pump():
                    pass
        self._settle()

    def receive(self, source: int, out: memoryview | None = None) -> memoryview:
        """What rank `source` sends, in `out` (which must have its length) or in new memory."""
        sequence = self._sequences[Stream.DIRECT, source, self.rank]
        self._sequences[Stream.DIRECT, source, self.rank] += 1
        target = None if out is None else out.cast("B")
        grown = bytearray()
        got = 0
        while True:
            arrival = self._take(Stream.DIRECT, sequence, fingerprint("send"), None, source)
            assert arrival is not None
            header, frame = arrival
            if header.index * CHUNK_BYTES != got:
                raise OutOfStep(f"data from rank {source} was lost on the way")
            if target is None:
                grown += frame.buffer
            elif header.total != len(target):
                raise OutOfStep(f"rank {source} sends {header.total} bytes, not {len(target)}")
            else:
                target[got : got + len(frame)] = frame.buffer
            got += len(frame)
            if got >= header.total:
                return memoryview(grown) if target is None else target

    # What the plane needs.

    def deliver(self, arrival: Arrival) -> None:
        """Queue a frame of this generation for the operation it belongs to."""
        header = arrival[0]
        if header.sender >= self.size:
            self._plane.dropped["malformed"] += 1
        else:
            self._queues[header.stream, header.sender].append(arrival)

    def leave(self) -> None:
        """Close this generation's connections; what was not sent yet is dropped."""
        for push in self._push.values():
            push.close(linger=0)
        self._push.clear()
        self._queues.clear()

    def _begin(self, stream: Stream) -> int:
        sequence = self._sequences[stream, 0, 0]
        self._sequences[stream, 0, 0] += 1
        return sequence

    def _header(self, sequence: int, chunk: Chunk, kind: int) -> Header:
        return Header(
            *(self.job, self.generation, sequence, self.rank, Stream.COLLECTIVE),
            *(chunk.phase, chunk.step, chunk.index, kind, chunk.stop - chunk.start),
        )

    def _send(self, to: int, header: Header, payload: Any) -> bool:
        """Hand one chunk to the socket; False when that link is full. Raises Aborted."""
        self._plane.check(self.generation)
        push = self._push.get(to)
        if push is None:
            push = self._push[to] = self._plane.connect(self._members[to])
        try:
            push.send(header.pack(), zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.Again:
            return False
        if isinstance(payload, zmq.Frame):
            push.send(payload, zmq.NOBLOCK, copy=False)
        elif len(payload) < ZERO_COPY_BYTES_MIN:
            push.send(payload, zmq.NOBLOCK)
        else:
            tracker = push.send(payload, zmq.NOBLOCK, copy=False, track=True)
            assert tracker is not None
            self._trackers.append(tracker)
        return True

    def _take(
        self, stream: Stream, sequence: int, kind: int, full: int | None, sender: int | None = None
    ) -> Arrival | None:
        """The next frame of this operation; None when the link to rank `full` has room again."""
        if sender is None:
            sender = (self.rank - 1) % self.size
        queue = self._queues[stream, sender]
        while True:
            self._plane.check(self.generation)
            if queue:
                header = queue[0][0]
                if header.sequence != sequence or header.fingerprint != kind:
                    raise OutOfStep(f"rank {sender} is in another operation than this one")
                return queue.popleft()
            if not self._plane.pump():
                self._plane.wait(self.generation, self._push[full] if full is not None else None)
                if full is not None and self._push[full].poll(0, zmq.POLLOUT):
                    return None

    def _settle(self) -> None:
        """Wait until nobody reads the caller's memory any more."""
        while self._trackers:
            try:
                self._trackers[0].wait(0.002)
                self._trackers.popleft()
            except zmq.NotDone:
                self._plane.check(self.generation)


def _bytes_of(send: Send, source: Array, out: Array) -> Array:
    array = source if send.memory is Memory.SOURCE else out
    return array[send.chunk.start : send.chunk.stop].view(np.uint8)


def _next_chunk(machine: AllReduce, header: Header) -> tuple[Chunk, Send | None]:
    try:
        return machine.on_chunk(header.phase, header.step, header.index)
    except OutOfOrder as error:
        raise OutOfStep(f"data from rank {header.sender} was lost on the way: {error}") from error


def _values(frame: zmq.Frame, chunk: Chunk, dtype: np.dtype[Any]) -> Array:
    if len(frame) != (chunk.stop - chunk.start) * dtype.itemsize:
        raise OutOfStep(f"a chunk of {len(frame)} bytes came for {chunk}")
    return np.frombuffer(frame.buffer, dtype)


def _check_arrays(source: Array, out: Array) -> None:
    if source.shape != out.shape or source.dtype != out.dtype:
        raise ValueError(f"out is {out.dtype}{out.shape}, source {source.dtype}{source.shape}")
    if not (source.flags.c_contiguous and out.flags.c_contiguous and out.flags.writeable):
        raise ValueError("all_reduce needs contiguous arrays and a writeable out")
    if np.may_share_memory(source, out):
        raise ValueError("all_reduce needs an out apart from source, which it never changes")
