"""Every collective straight over the links between all members: a plan's machine, at work.

Small calls go in one hop; all-reduce and broadcast of more than `ONE_HOP_BYTES_MAX` in two.
"""

from collections import deque

import numpy as np
import zmq

from collectives.call import Array, Call, Kind
from collectives.errors import OutOfStep
from collectives.frames import Header, Stream, fingerprint
from collectives.links import Links
from collectives.plan import Act, Hop, Machine, OutOfOrder, Send, make_plan
from collectives.reductions import Reduction

# Measured over the loopback, CPU per call: 1 MiB chunks cost a tenth more than these at 4 and 16 MB
# (2 and 3 ranks), 512 KiB ones 3 % more again, and twice as long ones save 3 % but overlap less.
# A second hop saves more than it costs from 512 KiB to 1 MiB on; sooner where the line is slow.
CHUNK_BYTES = 2 << 20
ONE_HOP_BYTES_MAX = 1 << 18

_PLACING = Reduction("sum", np.dtype(np.uint8))  # of calls that combine nothing: never used


class Exchange:
    """Takes every call."""

    def __init__(self, links: Links) -> None:
        self.links = links

    def takes(self, call: Call) -> bool:
        return True

    def interrupt(self) -> None:
        """It sleeps in `DataPlane.wait` only."""

    def end(self) -> None:
        """Nothing is kept between calls."""

    def run(self, call: Call) -> None:
        links = self.links
        plan = make_plan(call, links.rank, links.size, self._hops(call))
        chunk_length = max(1, CHUNK_BYTES // max(1, call.source.itemsize))
        machine = Machine(plan, links.rank, chunk_length)
        _Run(links, call, machine).go()

    def _hops(self, call: Call) -> int:
        if call.kind not in (Kind.ALL_REDUCE, Kind.BROADCAST):
            return 1
        return 1 if call.length * call.source.itemsize <= ONE_HOP_BYTES_MAX else 2


class _Run:
    """One call on its way. What waits for room in a link stays in that link's outbox."""

    def __init__(self, links: Links, call: Call, machine: Machine) -> None:
        self.links, self.call, self.machine = links, call, machine
        self.outboxes: dict[int, tuple[deque[Send], deque[Send]]] = {}  # by rank, for both hops
        self.held: dict[int, dict[int, zmq.Frame]] = {}  # by chunk and sender
        self.sent = call.source
        self.reduction = call.reduction or _PLACING
        # In two hops, what is written has been sent and taken before; in one it has not.
        if not machine.plan.onward and np.may_share_memory(call.source, call.out):
            self.sent = call.source.copy()

    def go(self) -> None:
        for send in self.machine.start():
            self._enqueue(send)
        self._begin_own()
        while True:
            blocked = self._flush()
            if not self.machine.awaited and not blocked:
                return
            if not self._take():
                self.links.progress(self.machine.awaited, blocked)

    def _take(self) -> bool:
        """Handle one chunk that has come, if one has."""
        for sender in self.machine.awaited:
            if self.links.has(Stream.COLLECTIVE, sender):
                header, frame = self.links.pop(Stream.COLLECTIVE, sender)
                check_in_step(self.links, header, self.call.sequence, self.call.fingerprint)
                self._on_chunk(sender, header.part, header.chunk, frame)
                return True
        return False

    def _begin_own(self) -> None:
        plan, call = self.machine.plan, self.call
        source, out = call.source[slice(*plan.own)], call.out[slice(*plan.mine)]
        if plan.combined:
            if self.links.size == 1:
                self.reduction.fold([source], out)
        elif source.size and not np.may_share_memory(source, out):
            np.copyto(out, source)

    def _enqueue(self, send: Send) -> None:
        first, second = self.outboxes.setdefault(send.to, (deque(), deque()))
        (first if send.hop == Hop.FIRST else second).append(send)

    def _flush(self) -> list[int]:
        """Send what there is room for; the ranks whose links are full. Finished chunks go first:
        they are still in the cache."""
        blocked = []
        for to, (first, second) in self.outboxes.items():
            for box in (second, first):
                while box and self._send(box[0]):
                    box.popleft()
                if box:
                    blocked.append(to)
                    break
        return blocked

    def _send(self, send: Send) -> bool:
        array = self.sent if send.hop == Hop.FIRST else self.call.out
        payload = array[send.start : send.stop].view(np.uint8).data
        header = self.links.header(
            *(Stream.COLLECTIVE, self.call.sequence, self.call.fingerprint, len(payload)),
            part=send.hop,
            chunk=send.index,
        )
        return self.links.send_nowait(send.to, header, payload)

    def _on_chunk(self, sender: int, hop: int, index: int, frame: zmq.Frame) -> None:
        try:
            act, start, stop = self.machine.on_chunk(sender, hop, index)
        except OutOfOrder as error:
            raise OutOfStep(f"data from rank {sender} was lost on the way: {error}") from error
        out = self.call.out[start:stop]
        if len(frame) != out.nbytes:
            raise OutOfStep(f"{len(frame)} bytes came from rank {sender}, not {out.nbytes}")
        if act is Act.PLACE:
            np.copyto(out, np.frombuffer(frame.buffer, out.dtype))
        else:
            self.held.setdefault(index, {})[sender] = frame
        if act is Act.COMBINE:
            self._combine(index, out)
        if act is not Act.HOLD and hop == Hop.FIRST:
            for send in self.machine.onward(index):
                self._enqueue(send)

    def _combine(self, index: int, out: Array) -> None:
        """In rank order, whoever came first."""
        frames = self.held.pop(index)
        start, stop = self.machine.bounds(self.machine.plan.own, index)
        parts = [
            self.call.source[start:stop]
            if rank == self.links.rank
            else np.frombuffer(frames[rank].buffer, out.dtype)
            for rank in range(self.links.size)
        ]
        self.reduction.fold(parts, out)


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
        raise OutOfStep(f"rank {header.sender} is not in the same operation as rank {links.rank}")
