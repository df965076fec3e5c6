"""Collectives of ranks on one host, through memory that all of them can read.

A rank offers its data where others can read it, and takes what it needs of theirs straight from
there (collectives/shm_plan.py says what, in which step). Data in registered memory is read where it
lies; other data is staged: copied, chunk by chunk, to a slot of the control segment. What a rank
combines goes to such a slot too, and from there, while it is in the cache, to everybody's `out`:
nothing is read from main memory but the sources, nothing written to it but the results.

A rank reads others' memory and writes its own. Before it returns, nobody reads `source` any more.
"""

import itertools
from collections.abc import Iterator, Sequence

from collectives.call import Array, Call, Kind
from collectives.errors import LostPeer, OutOfStep
from collectives.shm_control import ABANDONED, ControlSegment, Notice, OtherControl, reached
from collectives.shm_memory import Place, RegisteredMemory
from collectives.shm_passes import PAST_CACHE_BYTES_MIN, Part, Passes
from collectives.shm_plan import Need, Pieces, Plan, plan_of
from collectives.shm_waits import Generation, Wait, Waits
from collectives.shm_watch import Watch

STAGED_BYTES_MAX = 64 << 10  # copied even from registered memory


class SharedOperations:
    """One generation as seen by one rank. All call the same operations in the same order.

    Whoever makes `generation.check` raise calls `interrupt` then. One thread, but for `interrupt`.
    """

    def __init__(
        self,
        rank: int,
        control: ControlSegment,
        others: Sequence[OtherControl],
        memory: RegisteredMemory,
        generation: Generation,
    ) -> None:
        self.rank, self.size = rank, len(others) + 1
        self._control, self._memory = control, memory
        self._passes = Passes(generation.check)
        # From the next rank on, so that not all read the same rank's memory at the same time.
        self._others = sorted(others, key=lambda other: (other.rank - rank) % self.size)
        self._step = 0  # of all operations so far; our progress word says how many are complete
        self._operation = 0
        self._waits = Waits(generation, self.size)
        self._over = False
        self._watch = Watch({other.rank: other.pidfd for other in others}, self._waits.on_lost)

    def run(self, call: Call) -> None:
        """Raises LostPeer, OutOfStep, OSError (memory of another rank cannot be mapped)."""
        for wait in self.work(call):
            for other in wait.of:
                self._waits.until(other, wait.steps)

    def work(self, call: Call) -> Iterator[Wait]:
        """The operation, but for waiting."""
        if call.kind is Kind.ALL_TO_ALL:
            yield from self._all_to_all(call)
            return
        width = call.source.itemsize
        plan = plan_of(call.kind, call.length, width, call.root, self.rank, self.size)
        mine = self._describe(call, self._place_of(call, plan), plan.may_stay)
        parts: dict[int, Part] = {}
        for step in range(plan.steps):
            if step < plan.chunks and mine.source is None and plan.offers(self.rank):
                self._stage(plan.staged(step), call.source)
            if step > 0:
                if step <= max(1, plan.chunks):
                    yield self._all()
                parts = parts or self._parts(call, mine)
                if all(part.in_place and part.notice.out for part in parts.values()):
                    yield from self._where_it_stays(plan, call, parts)
                    return
                if step <= plan.chunks:
                    self._take(plan, call, parts, step - 1)
                if plan.by_segments and step >= 2:
                    yield from self._collect(plan, call, step - 2)
            self._step += 1
            if step < plan.steps - 1:
                self._control.publish(self._step)
        if not plan.by_segments:
            yield from self._until_read(mine, parts)

    def _all(self) -> Wait:
        return Wait(self._step, self._others)

    def _one_by_one(self) -> Iterator[tuple[Wait, OtherControl]]:
        """Every other rank, once it has completed the step before; first who already has."""
        left = list(self._others)
        while left:
            ready = (other for other in left if reached(other.word, self._step))
            other = next(ready, left[0])
            left.remove(other)
            yield Wait(self._step, (other,)), other

    def _until_read(self, mine: Notice, parts: dict[int, Part]) -> Iterator[Wait]:
        """The end of an operation whose last step read what others offered."""
        if any(part.in_place for part in parts.values()):
            self._control.publish(self._step)
            if mine.source is not None:
                yield self._all()  # until nobody reads `source` any more

    def _all_to_all(self, call: Call) -> Iterator[Wait]:
        """Like `work`. How many chunks there are, all know when they know all ranks' counts."""
        pieces = Pieces(call.source.itemsize, self.rank, self.size)
        place = self._memory.find(call.source) if call.source.nbytes > STAGED_BYTES_MAX else None
        mine = self._describe(call, place)
        self._control.tell_counts(self._operation, call.sends)
        parts: dict[int, Part] = {}
        counts: dict[int, tuple[int, ...]] = {}
        for step in itertools.count():
            if mine.source is None:
                self._stage(pieces.staged(call.sends, step), call.source)
            if step > 0:
                yield self._all()
                parts = parts or self._parts(call, mine)
                counts = counts or self._counts(call)
                for rank, taken in pieces.taken(counts, call.receives, step - 1):
                    data = parts[rank].data(self._step - 1, taken.source)
                    target = call.out[taken.start : taken.start + taken.source.length]
                    self._passes.copy(data, target, call.out)
                self._check_there(parts)
            self._step += 1
            if step > 0 and step >= pieces.chunks(counts):
                break
            self._control.publish(self._step)
        yield from self._until_read(mine, parts)

    def _counts(self, call: Call) -> dict[int, tuple[int, ...]]:
        """How much each rank sends to each, by rank. Raises OutOfStep when it does not fit."""
        counts = {self.rank: call.sends}
        for other in self._others:
            counts[other.rank] = other.counts(self._operation)
        for rank, sends in counts.items():
            if sends[self.rank] != call.receives[rank]:
                raise OutOfStep(
                    f"rank {rank} sends {sends[self.rank]} elements to rank {self.rank}, "
                    f"which expects {call.receives[rank]}"
                )
        return counts

    def _where_it_stays(self, plan: Plan, call: Call, parts: dict[int, Part]) -> Iterator[Wait]:
        """The rest of an operation in which nobody needs a slot, after its first step."""
        assert call.reduction is not None
        own = plan.whole_segment(self.rank)
        data = [parts[rank].data(0, own) for rank in range(self.size)]
        target = call.out[own.start : own.stop]
        self._passes.fold(call.reduction, data, target, None, past_cache=True)
        self._tell_read(parts)
        for wait, other in self._one_by_one():
            yield wait
            need = plan.whole_segment(other.rank)
            target = call.out[need.start : need.stop]
            self._passes.copy(parts[other.rank].result(need), target, call.out)
        self._tell_read(parts)
        yield self._all()  # until nobody reads `source` or `out` any more

    def _tell_read(self, parts: dict[int, Part]) -> None:
        """Complete a step in which others' arrays were read. Raises LostPeer."""
        self._check_there(parts)
        self._step += 1
        self._control.publish(self._step)

    def interrupt(self) -> None:
        """From any thread: whoever sleeps in an operation looks at `check` again."""
        self._waits.interrupt()

    def on_lost(self, rank: int) -> None:
        self._waits.on_lost(rank)

    def end(self) -> None:
        """Leave: operations of others that need us end. Let go of their memory. Idempotent."""
        if not self._over:
            self._over = True
            self._watch.close()
            self._control.abandon()
            self._control.close()
            for other in self._others:
                other.close()

    def _place_of(self, call: Call, plan: Plan) -> Place | None:
        """Where others may read this rank's source until the operation is over."""
        # What is small is copied: then nobody need wait in the end until nobody reads it.
        in_place = plan.by_segments or (plan.may_lie and call.source.nbytes > STAGED_BYTES_MAX)
        offered = in_place and plan.offers(self.rank) and plan.chunks > 0
        return self._memory.find(call.source) if offered else None

    def _describe(self, call: Call, place: Place | None, may_stay: bool = False) -> Notice:
        self._operation += 1
        stays = self._memory.find(call.out) if place and may_stay else None
        notice = Notice(call.fingerprint, place, stays, self._memory.forgotten)
        self._control.describe(self._operation, notice)
        return notice

    def _parts(self, call: Call, mine: Notice) -> dict[int, Part]:
        """What all ranks bring, by rank. Raises OutOfStep when it does not fit."""
        parts = {self.rank: Part(None, mine, call.source)}
        for other in self._others:
            notice = other.notice(self._operation)
            if notice.kind != call.fingerprint:
                raise OutOfStep(f"rank {other.rank} is not in the same operation as {self.rank}")
            parts[other.rank] = Part(other, notice, call.source)
        return parts

    def _stage(self, needs: Sequence[Need], source: Array) -> None:
        for need in needs:
            slot = self._control.staged(self._step, source.dtype, need.length, need.at)
            self._passes.copy(source[need.start : need.stop], slot)

    def _take(self, plan: Plan, call: Call, parts: dict[int, Part], chunk: int) -> None:
        """What this rank needs of the chunk that was offered in the step before."""
        need, offered = plan.need(chunk, self.rank), self._step - 1
        senders = [rank for rank in range(self.size) if plan.offers(rank)]
        if plan.combines and (plan.by_segments or plan.wants(self.rank)):
            data = [parts[rank].data(offered, need) for rank in senders]
            self._combine(plan, call, data, need)
        elif plan.wants(self.rank):
            at = chunk * plan.chunk_length
            for rank in senders:
                start = at + (rank * plan.length if len(senders) > 1 else 0)
                target = call.out[start : start + need.length]
                self._passes.copy(parts[rank].data(offered, need), target, call.out)
        self._check_there(parts)

    def _check_there(self, parts: dict[int, Part]) -> None:
        """What was read where it lies is what was meant. Raises LostPeer."""
        for part in parts.values():
            if part.in_place and part.control and part.control.word & ABANDONED:
                raise LostPeer(part.control.rank, "has left the generation")

    def _combine(self, plan: Plan, call: Call, data: list[Array], need: Need) -> None:
        assert call.reduction is not None
        start = need.start - (self.rank * plan.length if call.kind is Kind.REDUCE_SCATTER else 0)
        target = call.out[start : start + need.length]  # empty where this rank gets nothing
        past_cache = call.out.nbytes >= PAST_CACHE_BYTES_MIN
        slot = None
        if plan.by_segments:
            slot = self._control.result(self._step, target.dtype, need.length)
        if not plan.wants(self.rank):
            assert slot is not None
            target, slot, past_cache = slot, None, False
        self._passes.fold(call.reduction, data, target, slot, past_cache=past_cache)

    def _collect(self, plan: Plan, call: Call, chunk: int) -> Iterator[Wait]:
        """The segments that the others combined in the step before."""
        for wait, other in self._one_by_one():
            yield wait
            if not plan.wants(self.rank):
                continue
            need = plan.need(chunk, other.rank)
            result = other.result(self._step - 1, call.out.dtype, need.length)
            self._passes.copy(result, call.out[need.start : need.stop], call.out)
