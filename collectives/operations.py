"""What the members of one generation do together: reduce, gather, and send to one another."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from collectives.alone import Alone
from collectives.call import Algorithm, Array, Call, Kind, check_usable
from collectives.errors import Aborted, LostPeer
from collectives.exchange import Exchange
from collectives.frames import fingerprint
from collectives.links import Links
from collectives.messages import Messages
from collectives.reductions import Reduction, reduction_of
from collectives.shm_join import SharedMemory

if TYPE_CHECKING:
    from collectives.plane import DataPlane, Endpoints

PAYLOAD_BYTES_MAX = 1 << 20  # of all_gather
AT_ONCE_BYTES = 508  # of a payload; longer ones take a second exchange

# Every way to carry out a collective; a group uses the first one that takes the call.
ALGORITHMS: list[Callable[[Links], Algorithm]] = [Alone, SharedMemory, Exchange]


class Group:
    """One generation as seen by one rank, from `DataPlane.enter`. Belongs to the plane's thread.

    All members call the same collectives in the same order; `send` and `receive` pair up by ranks
    and tags. Arrays are contiguous and of equal size and type on all ranks, ValueError otherwise;
    `number` = "bfloat16" says what uint16 arrays hold. The result has the same bits on all ranks.

    Every operation raises Aborted when the generation ends before the operation does, LostPeer
    (an Aborted) when a member is gone, OutOfStep (an Aborted) when ranks do different things.
    Sources are never written, except where `out` is the very same array (in place): then it means
    nothing after an error. Whether an operation returns or raises, from then on nobody reads or
    writes the arrays that were passed to it. One that fails ends the generation for this rank:
    there is no way back into the streams.
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
        self.links = Links(plane, job, generation, rank, members)
        self._algorithms = [make(self.links) for make in ALGORITHMS]
        self._messages = Messages(self.links)
        self._collectives = 0
        self.given_bytes = 0.0  # to other ranks, without headers, by whatever way
        self._failed = False

    # Reductions. op: see collectives.reductions.OPERATIONS.

    def all_reduce(self, source: Array, out: Array, op: str, number: str = "") -> None:
        """out = every rank's `source` combined, element by element. May be in place."""
        _check_same("all_reduce", source, out)
        reduction = reduction_of(op, source.dtype, number)
        self._collective(Kind.ALL_REDUCE, source, out, source.size, reduction)

    def reduce_scatter(self, source: Array, out: Array, op: str, number: str = "") -> None:
        """source[size * n], combined over all ranks; rank r gets the r-th n of it in out[n]."""
        _check_parts("reduce_scatter", source, out, self.size, out)
        reduction = reduction_of(op, source.dtype, number)
        self._collective(Kind.REDUCE_SCATTER, source, out, out.size, reduction)

    def reduce(
        self, source: Array, out: Array | None, op: str, root: int, number: str = ""
    ) -> None:
        """Like all_reduce, but only rank `root` gets the result; `out` of the others is None."""
        target = self._only_at(root, "reduce", out, source.dtype)
        if self.rank == root:
            _check_same("reduce", source, target)
        check_usable("reduce", source)
        reduction = reduction_of(op, source.dtype, number)
        self._collective(Kind.REDUCE, source, target, source.size, reduction, root)

    # Moving arrays of any type without objects.

    def all_gather_arrays(self, source: Array, out: Array) -> None:
        """out[size * n] = every rank's source[n], by rank."""
        _check_parts("all_gather_arrays", out, source, self.size, out)
        self._collective(Kind.ALL_GATHER, source, out, source.size)

    def gather(self, source: Array, out: Array | None, root: int) -> None:
        """Like all_gather_arrays, but only rank `root` gets it; `out` of the others is None."""
        target = self._only_at(root, "gather", out, source.dtype)
        if self.rank == root:
            _check_parts("gather", target, source, self.size, target)
        self._collective(Kind.GATHER, source, target, source.size, None, root)

    def scatter(self, source: Array | None, out: Array, root: int) -> None:
        """Rank r gets the r-th n of root's source[size * n] in out[n]; others pass None."""
        parts = self._only_at(root, "scatter", source, out.dtype)
        if self.rank == root:
            _check_parts("scatter", parts, out, self.size, out)
        self._collective(Kind.SCATTER, parts, out, out.size, None, root)

    def broadcast(self, array: Array, root: int) -> None:
        """`array` of rank `root` in everybody's `array`."""
        check_usable("broadcast", array)
        self._check_rank(root)
        nothing = array.reshape(-1)[:0]
        source, out = (array, nothing) if self.rank == root else (nothing, array)
        self._collective(Kind.BROADCAST, source, out, array.size, None, root)

    def all_to_all(
        self,
        source: Array,
        out: Array,
        sends: Sequence[int] | None = None,
        receives: Sequence[int] | None = None,
    ) -> None:
        """sends[r] elements of `source` go to rank r, receives[r] come from it in `out`, by rank.

        Without counts, all are equal. OutOfStep when a rank sends another number than is expected.
        """
        check_usable("all_to_all", source, out)
        given = tuple(sends) if sends is not None else self._equal_parts(source)
        taken = tuple(receives) if receives is not None else self._equal_parts(out)
        for counts, array in ((given, source), (taken, out)):
            if len(counts) != self.size or min(counts) < 0 or sum(counts) != array.size:
                raise ValueError(f"all_to_all cannot split {array.size} elements as {counts}")
        if source.dtype != out.dtype or np.may_share_memory(source, out):
            raise ValueError("all_to_all needs an out of the same type, apart from source")
        self._collective(Kind.ALL_TO_ALL, source, out, 0, counts=(given, taken))

    def barrier(self) -> None:
        """Returns when every rank has called it."""
        one = np.zeros(1, np.uint8)
        self.all_reduce(one, one, "max")

    def all_gather(self, payload: bytes) -> list[bytes]:
        """Every rank's payload, by rank. For small things: at most PAYLOAD_BYTES_MAX each."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise ValueError(f"all_gather takes {PAYLOAD_BYTES_MAX} bytes, not {len(payload)}")
        every = self._gather_bytes(len(payload).to_bytes(4, "big") + payload[:AT_ONCE_BYTES])
        lengths = [int.from_bytes(one[:4].tobytes(), "big") for one in every]
        if max(lengths) > AT_ONCE_BYTES:
            rest = self._gather_bytes(payload[AT_ONCE_BYTES:], max(lengths) - AT_ONCE_BYTES)
            every = np.concatenate((every, rest), axis=1)
        pairs = zip(every, lengths, strict=True)
        return [one[4 : 4 + length].tobytes() for one, length in pairs]

    def _gather_bytes(self, data: bytes, room: int = 4 + AT_ONCE_BYTES) -> Array:
        """[rank, room] bytes, what is short of `room` filled up with zeros."""
        mine = np.frombuffer(data.ljust(room, b"\0"), np.uint8)
        every = np.empty((self.size, room), np.uint8)
        self.all_gather_arrays(mine, every)
        return every

    # Between two ranks.

    def send(self, to: int, payload: memoryview | bytes, tag: int = 0) -> None:
        """Give any number of bytes to rank `to`, which calls `receive`. 0 <= tag < 2^32."""
        self._check_rank(to, other=True)
        with self._operation():
            data = memoryview(payload).cast("B")
            self.given_bytes += len(data)
            self._messages.send(to, data, tag)

    def receive(self, source: int, out: memoryview | None = None, tag: int = 0) -> memoryview:
        """What rank `source` sends: in `out`, which must have its length, or in new memory.

        Messages of one rank with one tag come in the order in which they were sent. New memory
        grows with what has arrived, never by what the sender says will.
        """
        self._check_rank(source, other=True)
        with self._operation():
            return self._messages.receive(source, None if out is None else out.cast("B"), tag)

    def probe(self, tag: int = 0, source: int | None = None) -> int | None:
        """A rank (`source`, or any) whose next message with this tag has begun to arrive, or None.

        Never waits. Take turns with `wait` to receive from whoever sends first.
        """
        with self._operation():
            return self._messages.probe(tag, source)

    def wait(self, seconds: float | None = None) -> None:
        """Sleep until something arrives, `DataPlane.wake` is called, or `seconds` have passed."""
        with self._operation():
            self.links.progress(self.links.others, (), seconds)

    @property
    def awaited(self) -> frozenset[int]:
        """The ranks that the running operation waits for. From any thread, a moment old."""
        return self.links.awaited

    # How operations run.

    def interrupt(self) -> None:
        """From any thread: whatever makes this group's operations raise is noticed now."""
        for algorithm in self._algorithms:
            algorithm.interrupt()

    def end(self, reason: str, lost: int | None = None) -> None:
        """Let go of everything. What was sent before still arrives if no operation has failed."""
        for algorithm in self._algorithms:
            algorithm.end()
        self.links.end(reason, in_order=not self._failed, lost=lost)

    def _collective(
        self,
        kind: Kind,
        source: Array,
        out: Array,
        length: int,
        reduction: Reduction | None = None,
        root: int = 0,
        counts: tuple[tuple[int, ...], tuple[int, ...]] = ((), ()),
    ) -> None:
        name = (reduction.op, reduction.number) if reduction else (source.dtype.str, out.dtype.str)
        with self._operation():
            sequence = self._next_collective()
            kind_print = fingerprint(kind.name, *name, length, root, self.size)
            flat = (source.reshape(-1), out.reshape(-1))
            call = Call(kind, sequence, kind_print, *flat, length, reduction, root, *counts)
            self.given_bytes += call.bytes_given(self.size)
            next(one for one in self._algorithms if one.takes(call)).run(call)

    @contextmanager
    def _operation(self) -> Iterator[None]:
        """Whatever happens inside, afterwards nobody holds the caller's memory."""
        try:
            self.links.check()
            yield
            self.links.settle()
        except BaseException as error:
            self._failed = True
            reason = str(error) if isinstance(error, Aborted) else "an operation failed before"
            self.end(reason, error.rank if isinstance(error, LostPeer) else None)
            raise

    def _next_collective(self) -> int:
        self._collectives += 1
        return self._collectives

    def _equal_parts(self, array: Array) -> tuple[int, ...]:
        if array.size % self.size:
            raise ValueError(f"{array.size} elements cannot be split among {self.size} ranks")
        return (array.size // self.size,) * self.size

    def _only_at(self, root: int, name: str, array: Array | None, dtype: np.dtype[Any]) -> Array:
        """`array`, given at the root and only there; elsewhere an empty one."""
        self._check_rank(root)
        if (array is None) == (self.rank == root):
            needed = "an" if array is None else "no other"
            raise ValueError(f"{name} needs {needed} array at rank {self.rank}, root is {root}")
        return np.empty(0, dtype) if array is None else array

    def _check_rank(self, rank: int, *, other: bool = False) -> None:
        if not 0 <= rank < self.size or (other and rank == self.rank):
            another = "another" if other else "one"
            raise ValueError(f"rank {rank} is not {another} of the {self.size} members")


def _check_same(name: str, source: Array, out: Array) -> None:
    check_usable(name, source, out)
    if source.shape != out.shape or source.dtype != out.dtype:
        raise ValueError(f"out is {out.dtype}{out.shape}, source {source.dtype}{source.shape}")
    if np.may_share_memory(source, out) and source.ctypes.data != out.ctypes.data:
        raise ValueError(f"{name} needs an out apart from source, or the very same array")


def _check_parts(name: str, whole: Array, part: Array, size: int, out: Array) -> None:
    check_usable(name, part if out is whole else whole, out)
    if whole.dtype != part.dtype or whole.size != part.size * size:
        raise ValueError(
            f"{name} of {size} ranks needs {size} times {part.dtype}[{part.size}], "
            f"not {whole.dtype}[{whole.size}]"
        )
    if np.may_share_memory(whole, part):
        raise ValueError(f"{name} needs an out apart from source")
