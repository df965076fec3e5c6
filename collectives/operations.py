"""What the members of one generation do together: reduce, gather, and send to one another."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zmq

from collectives.errors import Aborted, OutOfStep
from collectives.frames import Header, Stream, fingerprint
from collectives.links import Links
from collectives.ring import AllReduce, Chunk, Memory, OutOfOrder, Phase, Send, even_chunk

if TYPE_CHECKING:
    from collectives.plane import DataPlane, Endpoints

CHUNK_BYTES = (
    1 << 20
)  # about this much; measured: smaller costs wake-ups, larger costs overlap (tools.bench)
PAYLOAD_BYTES_MAX = 1 << 20  # of all_gather

Array = np.ndarray[Any, Any]
UFUNCS: dict[str, np.ufunc] = {"sum": np.add, "max": np.maximum}


class Group:
    """One generation as seen by one rank, from `DataPlane.enter`.

    All members call the same collectives in the same order; `send` and `receive` pair up by ranks.
    Every operation raises Aborted when the generation ends before the operation does. Whether it
    returns or raises, from then on nobody reads or writes the arrays that were passed to it. An
    operation that fails ends the generation for this rank: there is no way back into the streams.
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
        self.links = Links(plane, generation, rank, members)
        self._collectives = 0
        self._sent: dict[int, int] = {}
        self._received: dict[int, int] = {}

    def all_reduce(self, source: Array, out: Array, op: Literal["sum", "max"]) -> None:
        """out = the sum (or maximum, NaN if any is) of every rank's `source`, element by element.

        Contiguous, of equal shape and type, on all ranks; ValueError otherwise. `source` is never
        written; `out` must not overlap it.
        """
        _check_arrays(source, out, op)
        with self._operation():
            if self.size == 1:
                np.copyto(out, source)
            else:
                self._all_reduce(source.reshape(-1), out.reshape(-1), op)

    def _all_reduce(self, source: Array, out: Array, op: str) -> None:
        aim = max(1, CHUNK_BYTES // source.itemsize)
        chunk_length = even_chunk(len(source), self.size, aim)
        machine = AllReduce(self.rank, self.size, len(source), chunk_length)
        kind = fingerprint("all_reduce", op, source.dtype.str, len(source), chunk_length, self.size)
        sequence = self._next_collective()
        right, left = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        outbox: deque[tuple[Send, zmq.Frame | None]] = deque((s, None) for s in machine.start())
        while outbox or not machine.done:
            while outbox:
                send, arrived = outbox[0]
                header = self._collective_header(sequence, send.chunk, kind)
                payload = arrived if arrived is not None else _bytes_of(send, source, out)
                if not self.links.send_nowait(right, header, payload):
                    break
                outbox.popleft()
            if machine.done and not outbox:
                break
            full = right if outbox else None
            arrival = self.links.take(Stream.COLLECTIVE, left, sequence, kind, full)
            if arrival is not None:
                header, frame = arrival
                chunk, onward = _next_chunk(machine, header)
                _combine(frame, chunk, source, out, UFUNCS[op])
                if onward is not None:
                    passed_on = onward.memory is Memory.ARRIVED
                    outbox.append((onward, frame if passed_on else None))

    def all_gather(self, payload: bytes) -> list[bytes]:
        """Every rank's payload, by rank. For small things: at most PAYLOAD_BYTES_MAX each."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise ValueError(f"all_gather takes {PAYLOAD_BYTES_MAX} bytes, not {len(payload)}")
        gathered = {self.rank: bytes(payload)}
        with self._operation():
            sequence, kind = self._next_collective(), fingerprint("all_gather", self.size)
            right, left = (self.rank + 1) % self.size, (self.rank - 1) % self.size
            for step in range(self.size - 1):
                passed_on = gathered[(self.rank - step) % self.size]
                chunk = Chunk(Phase.GATHER, step, 0, 0, len(passed_on))
                self.links.send(right, self._collective_header(sequence, chunk, kind), passed_on)
                arrival = self.links.take(Stream.COLLECTIVE, left, sequence, kind)
                assert arrival is not None
                if arrival[0].step != step:
                    raise OutOfStep(f"data from rank {left} was lost on the way")
                gathered[(left - step) % self.size] = bytes(arrival[1].buffer)
        return [gathered[rank] for rank in range(self.size)]

    def send(self, to: int, payload: memoryview | bytes) -> None:
        """Give any number of bytes to rank `to`, which calls `receive`."""
        self._check_other(to)
        data = memoryview(payload).cast("B")
        with self._operation():
            sequence = self._sent[to] = self._sent.get(to, -1) + 1
            kind = fingerprint("send", CHUNK_BYTES)
            for index, at in enumerate(range(0, max(1, len(data)), CHUNK_BYTES)):
                header = Header(
                    *(self.job, self.generation, sequence, self.rank, Stream.DIRECT),
                    *(0, 0, index, kind, len(data)),
                )
                self.links.send(to, header, data[at : at + CHUNK_BYTES])

    def receive(self, source: int, out: memoryview | None = None) -> memoryview:
        """What rank `source` sends: in `out`, which must have its length, or in new memory.

        New memory grows with what has arrived, never by what the sender says will.
        """
        self._check_other(source)
        target = None if out is None else out.cast("B")
        grown = bytearray()
        got, total = 0, 1
        with self._operation():
            sequence = self._received[source] = self._received.get(source, -1) + 1
            kind = fingerprint("send", CHUNK_BYTES)
            for index in range(2**32):
                arrival = self.links.take(Stream.DIRECT, source, sequence, kind)
                assert arrival is not None
                header, frame = arrival
                total = header.total
                if header.index != index or len(frame) != min(CHUNK_BYTES, total - got):
                    raise OutOfStep(f"data from rank {source} was lost on the way")
                if target is None:
                    grown += frame.buffer
                elif total != len(target):
                    raise OutOfStep(f"rank {source} sends {total} bytes, not {len(target)}")
                else:
                    target[got : got + len(frame)] = frame.buffer
                got += len(frame)
                if got == total:
                    break
        return memoryview(grown) if target is None else target

    @contextmanager
    def _operation(self) -> Iterator[None]:
        """Whatever happens inside, afterwards nobody holds the caller's memory."""
        try:
            self.links.check()
            yield
            self.links.settle()
        except BaseException as error:
            reason = str(error) if isinstance(error, Aborted) else "an operation failed before"
            self.links.end(reason)
            raise

    def _next_collective(self) -> int:
        self._collectives += 1
        return self._collectives

    def _collective_header(self, sequence: int, chunk: Chunk, kind: int) -> Header:
        return Header(
            *(self.job, self.generation, sequence, self.rank, Stream.COLLECTIVE),
            *(chunk.phase, chunk.step, chunk.index, kind, chunk.stop - chunk.start),
        )

    def _check_other(self, rank: int) -> None:
        if not 0 <= rank < self.size or rank == self.rank:
            raise ValueError(f"rank {rank} is not another of the {self.size} members")


def _bytes_of(send: Send, source: Array, out: Array) -> memoryview:
    array = source if send.memory is Memory.SOURCE else out
    return array[send.chunk.start : send.chunk.stop].view(np.uint8).data


def _next_chunk(machine: AllReduce, header: Header) -> tuple[Chunk, Send | None]:
    try:
        return machine.on_chunk(header.phase, header.step, header.index)
    except OutOfOrder as error:
        raise OutOfStep(f"data from rank {header.sender} was lost on the way: {error}") from error


def _combine(
    frame: zmq.Frame, chunk: Chunk, source: Array, out: Array, combine: Callable[..., Any]
) -> None:
    """Reduce or copy straight from the memory the chunk arrived in."""
    if len(frame) != (chunk.stop - chunk.start) * out.itemsize:
        raise OutOfStep(f"{len(frame)} bytes came for {chunk}")
    arrived = np.frombuffer(frame.buffer, out.dtype)
    target = out[chunk.start : chunk.stop]
    if chunk.phase is Phase.REDUCE:
        combine(source[chunk.start : chunk.stop], arrived, out=target)
    else:
        np.copyto(target, arrived)


def _check_arrays(source: Array, out: Array, op: str) -> None:
    if op not in UFUNCS:
        raise ValueError(f"all_reduce knows {', '.join(UFUNCS)}, not {op!r}")
    if source.shape != out.shape or source.dtype != out.dtype:
        raise ValueError(f"out is {out.dtype}{out.shape}, source {source.dtype}{source.shape}")
    if source.dtype.hasobject:
        raise ValueError("all_reduce needs numbers, not objects")
    if not (source.flags.c_contiguous and out.flags.c_contiguous and out.flags.writeable):
        raise ValueError("all_reduce needs contiguous arrays and a writeable out")
    if np.may_share_memory(source, out):
        raise ValueError("all_reduce needs an out apart from source, which it never changes")
