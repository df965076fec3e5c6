"""Every collective straight over the wires between all members: a plan's machine, at work.

Small calls go in one hop; all-reduce and broadcast of more than `ONE_HOP_BYTES_MAX` in two.
"""

from collections import deque
from collections.abc import Callable, Mapping

import numpy as np
import zmq

from collectives.call import Array, Call, Kind
from collectives.errors import OutOfStep
from collectives.frames import Header, Stream, fingerprint
from collectives.links import Links
from collectives.plan import Act, Hop, Machine, OutOfOrder, Send, make_plan
from collectives.records import Record
from collectives.reductions import Reduction
from collectives.wire import Wire
from collectives.wiring import connect

# A chunk costs about 30 us of the interpreter on each side whatever its size, half a millisecond
# of copies per MiB; a few of each span are needed so that both ways and the additions overlap.
CHUNKS_PER_SPAN = 4
CHUNK_BYTES_MIN, CHUNK_BYTES_MAX = 256 << 10, 1 << 20
# A second hop saves more than it costs from 512 KiB to 1 MiB on; sooner where the line is slow.
ONE_HOP_BYTES_MAX = 1 << 18

_PLACING = Reduction("sum", np.dtype(np.uint8))  # of calls that combine nothing: never used


Connect = Callable[[Links], Mapping[int, Wire]]


class Exchange:
    """Takes every call. The ranks' wires are connected before the first."""

    def __init__(self, links: Links, connect: Connect = connect) -> None:
        self.links, self._connect = links, connect
        self._wires: Mapping[int, Wire] | None = None
        self._spare = Spare()

    def takes(self, call: Call) -> bool:
        return True

    def run(self, call: Call) -> None:
        links = self.links
        if self._wires is None:
            self._wires = self._connect(links)
        hops = self._hops(call)
        plan = make_plan(call, links.rank, links.size, hops)
        machine = Machine(plan, links.rank, self._chunk_length(call, hops))
        _Run(links, self._wires, call, machine, self._spare).go()

    def interrupt(self) -> None:
        """It sleeps in `DataPlane.wait` only."""

    def end(self) -> None:
        for wire in (self._wires or {}).values():
            wire.end()

    def _hops(self, call: Call) -> int:
        if call.kind not in (Kind.ALL_REDUCE, Kind.BROADCAST):
            return 1
        return 1 if call.length * call.source.itemsize <= ONE_HOP_BYTES_MAX else 2

    def _chunk_length(self, call: Call, hops: int) -> int:
        """In elements. All ranks know all that it depends on."""
        itemsize = max(1, call.source.itemsize)
        span = call.length * itemsize // (self.links.size if hops == 2 else 1)
        fit = min(max(span // CHUNKS_PER_SPAN, CHUNK_BYTES_MIN), CHUNK_BYTES_MAX)
        return max(1, fit // itemsize)


class Spare:
    """Memory for chunks that wait to be combined, used again and again."""

    def __init__(self) -> None:
        self._free: list[Array] = []

    def take(self, nbytes: int) -> Array:
        """nbytes <= CHUNK_BYTES_MAX of uint8."""
        whole = self._free.pop() if self._free else np.empty(CHUNK_BYTES_MAX, np.uint8)
        return whole[:nbytes]

    def give(self, chunk: Array) -> None:
        self._free.append(chunk if chunk.base is None else chunk.base)


class _Run:
    """One call on its way. What waits for room in a wire stays in that wire's outbox."""

    def __init__(
        self, links: Links, wires: Mapping[int, Wire], call: Call, machine: Machine, spare: Spare
    ) -> None:
        self.links, self.wires, self.call, self.machine = links, wires, call, machine
        self.outboxes = {rank: (deque[Send](), deque[Send]()) for rank in wires}  # for both hops
        self.coming: dict[int, tuple[Record, Array]] = {}  # by sender: what has begun to come
        self.held: dict[int, dict[int, Array]] = {}  # by chunk and sender
        self.spare, self.sent = spare, call.source
        self.reduction = call.reduction or _PLACING
        apart = not np.may_share_memory(call.source, call.out)
        # Of every chunk that is combined, one can be received where the result will be.
        self.in_out = min(wires, default=0) if apart else links.rank
        # In two hops, what is written has been sent and taken before; in one it has not.
        if not machine.plan.onward and not apart:
            self.sent = call.source.copy()

    def go(self) -> None:
        for send in self.machine.start():
            self._enqueue(send)
        self._begin_own()
        while True:
            self.links.check()
            moved = self._take()
            blocked = self._flush()
            if not self.machine.awaited and not blocked:
                return
            if not moved:
                self._sleep(blocked)

    def _sleep(self, blocked: set[int]) -> None:
        awaited = self.machine.awaited
        files = [
            (wire.fileno(), zmq.POLLIN * (rank in awaited) | zmq.POLLOUT * (rank in blocked))
            for rank, wire in self.wires.items()
            if rank in awaited or rank in blocked
        ]
        self.links.progress((), files=files)

    def _begin_own(self) -> None:
        plan, call = self.machine.plan, self.call
        source, out = call.source[slice(*plan.own)], call.out[slice(*plan.mine)]
        if plan.combined:
            if self.links.size == 1:
                self.reduction.fold([source], out)
        elif source.size and not np.may_share_memory(source, out):
            np.copyto(out, source)

    # Out.

    def _enqueue(self, send: Send) -> None:
        self.outboxes[send.to][send.hop].append(send)

    def _flush(self) -> set[int]:
        """Send what there is room for; the ranks whose wires are full. Finished chunks go first:
        they are still in the cache."""
        blocked = set()
        for to, (first, second) in self.outboxes.items():
            wire = self.wires[to]
            while wire.flush() and (box := second or first):
                self._begin(wire, box.popleft())
            if wire.busy:
                blocked.add(to)
        return blocked

    def _begin(self, wire: Wire, send: Send) -> None:
        array = self.sent if send.hop == Hop.FIRST else self.call.out
        payload = _bytes(array[send.start : send.stop])
        call = self.call
        record = Record(call.sequence, call.fingerprint, send.hop, send.index, len(payload))
        wire.begin(record, payload)

    # In.

    def _take(self) -> bool:
        """Take a chunk from every rank from which one has come, if any has."""
        came = [self._take_from(sender) for sender in list(self.machine.awaited)]
        return any(came)

    def _take_from(self, sender: int) -> bool:
        if sender not in self.coming:
            record = self.wires[sender].next()
            if record is None:
                return False
            self.coming[sender] = record, self._room(sender, record)
        record, room = self.coming[sender]
        if not self.wires[sender].take(_bytes(room)):
            return False
        del self.coming[sender]
        self._on_chunk(sender, record, room)
        return True

    def _room(self, sender: int, record: Record) -> Array:
        """Where to receive this. Raises OutOfStep when it is not what should come."""
        call = self.call
        if (record.sequence, record.fingerprint) != (call.sequence, call.fingerprint):
            raise _not_together(sender, self.links.rank)
        try:
            start, stop = self.machine.expect(sender, record.hop, record.chunk)
        except OutOfOrder as error:
            raise OutOfStep(f"data from rank {sender} was lost on the way: {error}") from error
        out = call.out[start:stop]
        if record.length != out.nbytes:
            raise OutOfStep(f"{record.length} bytes came from rank {sender}, not {out.nbytes}")
        if self.machine.combines(record.hop) and sender != self.in_out:
            return self.spare.take(out.nbytes).view(out.dtype)
        return out

    def _on_chunk(self, sender: int, record: Record, room: Array) -> None:
        index = record.chunk
        act = self.machine.on_chunk(sender, record.hop, index)
        if act is not Act.PLACE:
            self.held.setdefault(index, {})[sender] = room
        if act is Act.COMBINE:
            self._combine(index)
        if act is not Act.HOLD and record.hop == Hop.FIRST:
            for send in self.machine.onward(index):
                self._enqueue(send)

    def _combine(self, index: int) -> None:
        """In rank order, whoever came first."""
        chunks = self.held.pop(index)
        start, stop = self.machine.bounds(self.machine.plan.own, index)
        chunks[self.links.rank] = self.call.source[start:stop]
        out = slice(*self.machine.bounds(self.machine.plan.mine, index))
        self.reduction.fold([chunks[rank] for rank in range(self.links.size)], self.call.out[out])
        for rank, chunk in chunks.items():
            if rank not in (self.links.rank, self.in_out):
                self.spare.give(chunk)


def _bytes(array: Array) -> memoryview:
    return array.view(np.uint8).data


def gather_payloads(links: Links, sequence: int, payload: bytes) -> list[bytes]:
    """Every rank's payload, by rank; each travels in one frame."""
    kind = fingerprint("payloads", links.size)
    header = links.header(Stream.COLLECTIVE, sequence, kind, len(payload))
    for to in links.others:
        links.send(to, header, payload)
    gathered = {links.rank: payload}
    for sender in links.others:
        arrival, frame = links.take(Stream.COLLECTIVE, sender)
        check_in_step(links, arrival, sequence, kind)
        gathered[sender] = bytes(frame.buffer)
    return [gathered[rank] for rank in range(links.size)]


def check_in_step(links: Links, header: Header, sequence: int, kind: int) -> None:
    """Raises OutOfStep when what came belongs to another operation than the one that runs."""
    if (header.sequence, header.fingerprint) != (sequence, kind):
        raise _not_together(header.sender, links.rank)


def _not_together(sender: int, rank: int) -> OutOfStep:
    return OutOfStep(f"rank {sender} is not in the same operation as rank {rank}")
