"""One generation's links: chunks out to other ranks, frames in from them, nothing left behind.

Memory that was handed to a socket without copying stays readable by libzmq's I/O thread until it
has been written out. `settle` waits for that on success, `end` on failure (after closing the
sockets, which drops what has not gone out). So once an operation has returned or raised, its caller
may change the arrays, and no other rank can be sent a half-changed chunk.
"""

import time
from collections import defaultdict, deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import zmq

from collectives.errors import Aborted, LostPeer, OutOfStep
from collectives.frames import Control, Header, Stream
from collectives.liveness import Member
from collectives.monitor import watch

if TYPE_CHECKING:
    from collectives.plane import DataPlane, Endpoints

ZERO_COPY_BYTES_MIN = 64 << 10  # below, copying is cheaper than being told when the bytes are free
EARLY_BYTES_MAX = 1 << 30  # data of operations of this generation that we have not begun yet
FRAME_BYTES = 256  # what keeping a frame costs besides its payload, roughly
LET_GO_SECONDS_MAX = 10.0
SILENT_SECONDS_MAX = 0.1  # a member that cannot be reached and has said nothing by then is lost
LINGER_MS = 1000  # for the last small messages of a member that leaves in order

_UNREACHABLE = zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED

Arrival = tuple[Header, zmq.Frame]
Payload = bytes | memoryview


class Links:
    """Sends to and takes from the other members. After `end` everything raises Aborted."""

    def __init__(
        self,
        plane: "DataPlane",
        job: bytes,
        generation: int,
        rank: int,
        members: Sequence["Endpoints"],
    ) -> None:
        self.rank, self.size, self.job, self.generation = rank, len(members), job, generation
        self.others = tuple((rank + offset) % self.size for offset in range(1, self.size))
        self.awaited: frozenset[int] = frozenset()  # while this rank sleeps
        self.one_host = all(member.host == plane.endpoints.host for member in members)
        self._plane = plane
        self.site, self.members = plane.site, tuple(members)
        self._over = ""
        self._push: dict[int, zmq.Socket[bytes]] = {}
        self._silent: dict[int, zmq.Socket[bytes]] = {}  # monitors of links to who said no hello
        self._missed: dict[int, float] = {}  # since when one of these cannot be reached
        self._queues: defaultdict[tuple[Stream, int, int], deque[Arrival]] = defaultdict(deque)
        self._early_bytes = 0
        self._trackers: list[tuple[int, zmq.MessageTracker]] = []
        hello = self.header(Stream.CONTROL, 0, 0, 0, part=Control.HELLO)
        for to, member in enumerate(members):
            if to != rank:
                self._push[to] = plane.open()
                self._silent[to] = watch(self._push[to], _UNREACHABLE)
                plane.connect(self._push[to], member)
                self._post(to, hello, b"")

    def near(self, rank: int) -> bool:
        """Whether it is on this host, and so is its private folder."""
        return self._plane.endpoints.near(self.members[rank])

    def header(
        self,
        stream: Stream,
        sequence: int,
        fingerprint: int,
        total: int,
        *,
        part: int = 0,
        chunk: int = 0,
    ) -> Header:
        return Header(
            *(self.job, self.generation, self.rank, stream, part),
            *(sequence, chunk, fingerprint, total),
        )

    def check(self) -> None:
        """Raises Aborted when this generation is over, for whatever reason."""
        if self._over:
            raise Aborted(self._over)
        self._plane.check(self.generation)

    def send_nowait(self, to: int, header: Header, payload: Payload) -> bool:
        """Hand a chunk to the link; False when the link is full. Copies only what is small."""
        self.check()
        return self._post(to, header, payload)

    def _post(self, to: int, header: Header, payload: Payload) -> bool:
        push = self._push[to]
        try:
            push.send(header.pack(), zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.Again:
            return False
        # A link that took the first part takes the whole message.
        if len(payload) < ZERO_COPY_BYTES_MIN:
            push.send(payload, zmq.NOBLOCK)
        else:
            tracker = push.send(payload, zmq.NOBLOCK, copy=False, track=True)
            assert tracker is not None
            self._trackers.append((to, tracker))
        return True

    def send(self, to: int, header: Header, payload: Payload) -> None:
        """The same, but waits for room; what arrives meanwhile is kept for its operation."""
        while not self.send_nowait(to, header, payload):
            self.progress((), (to,))

    def has(self, stream: Stream, sender: int, tag: int = 0) -> bool:
        """Whether something has come from this rank that nobody has taken yet."""
        return bool(self._queues[stream, sender, tag])

    def pop(self, stream: Stream, sender: int, tag: int = 0) -> Arrival:
        """Take the first that has come from this rank. IndexError when there is none."""
        arrival = self._queues[stream, sender, tag].popleft()
        self._early_bytes -= len(arrival[1]) + FRAME_BYTES
        return arrival

    def take(self, stream: Stream, sender: int, tag: int = 0) -> Arrival:
        """Wait for the next frame from this rank. Only messages have tags."""
        while not self._queues[stream, sender, tag]:
            self.progress((sender,))
        return self.pop(stream, sender, tag)

    def progress(
        self,
        awaited: Collection[int],
        blocked: Collection[int] = (),
        seconds: float | None = None,
        files: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Queue what has arrived; if nothing has, sleep until something does or a link has room.

        `awaited`: ranks without which the operation cannot go on, `blocked`: those whose links are
        full. `files`: other descriptors that end the sleep, and at what (zmq.POLLIN, POLLOUT).
        Raises LostPeer when one of these ranks is gone, or any other without a farewell.
        """
        self.check()
        if self._plane.pump():
            return
        self.awaited = frozenset((*awaited, *blocked))
        self.check_members(self.awaited)
        monitors = list(self._silent.values())
        if self._missed:
            seconds = min(seconds or SILENT_SECONDS_MAX, SILENT_SECONDS_MAX)
        self._plane.wait([self._push[to] for to in blocked], monitors, seconds, files)
        self.awaited = frozenset()
        if monitors:
            self._check_silent()
        self.check()

    def gather(self) -> None:
        """Queue all that has arrived, and no more."""
        while self._plane.pump():
            self.check()

    def check_members(self, needed: Collection[int]) -> None:
        """Raises LostPeer when one of `needed` is gone, or any member without a farewell.

        Call it only when all that has arrived is queued: then nothing of a lost one's is ignored.
        """
        for rank in self._plane.connections.gone(self.job, self.generation):
            if rank not in self.others:
                continue  # somebody lost us, or says so
            left = self._plane.connections.has_left(Member(self.job, self.generation, rank))
            if rank in needed or not left:
                raise LostPeer(rank, "has left the generation" if left else "is gone")

    def deliver(self, arrival: Arrival) -> bool:
        """Keep a frame of this generation for its operation; False when no member sends such."""
        header, payload = arrival
        if header.sender >= self.size or header.sender == self.rank:
            return False
        tag = header.fingerprint if header.stream is Stream.MESSAGE else 0
        self._queues[header.stream, header.sender, tag].append(arrival)
        self._early_bytes += len(payload) + FRAME_BYTES
        if self._early_bytes > EARLY_BYTES_MAX:
            raise OutOfStep(f"rank {header.sender} sends more than rank {self.rank} can keep")
        return True

    def settle(self) -> None:
        """Wait until nobody reads the memory that was sent. Raises Aborted.

        Keeps taking what arrives: the others may be waiting here too, with full links between us.
        """
        given_up = time.monotonic() + LET_GO_SECONDS_MAX
        # A link sends in order, so the last is nearly always the only one to wait for.
        for to, tracker in reversed(self._trackers):
            while not _released(tracker, 0.0 if self._plane.pump() else 0.005):
                self.check()
                self._plane.connections.drain()
                # Who has left had what it needed: it is only libzmq that has not told us yet.
                self.check_members((to,) if time.monotonic() > given_up else ())
        self._trackers.clear()

    def end(self, reason: str, *, in_order: bool = False, lost: int | None = None) -> None:
        """Close the connections and let go of all memory. Idempotent.

        `in_order`, after a last operation that went well, what is still on its way arrives. Else
        it is dropped. The others are told either way, and whether it is because rank `lost` is.
        """
        if self._over:
            return
        self._over = reason
        reachable = self._say_farewell() if in_order else ()
        for to, push in self._push.items():
            push.monitor(None, 0)
            push.close(linger=LINGER_MS if to in reachable else 0)
        self._push.clear()
        for monitor in self._silent.values():
            monitor.close(linger=0)
        self._silent.clear()
        self._queues.clear()
        for _, tracker in reversed(self._trackers):
            if not _released(tracker, LET_GO_SECONDS_MAX):
                raise RuntimeError("a closed connection still holds the memory it was sending")
        self._trackers.clear()
        if not in_order:
            self._say_broken(self.rank if lost is None else lost)

    def _say_farewell(self) -> set[int]:
        """To the members that have not gone themselves: these."""
        with suppress(Aborted):
            while self._plane.pump():
                pass
        farewell = self.header(Stream.CONTROL, 0, 0, 0, part=Control.FAREWELL)
        return {to for to in self._there() if self._post(to, farewell, b"")}

    def _say_broken(self, cause: int) -> None:
        """Over connections of their own: the old ones may have dropped all we ever sent, our hello
        as well, and whom nobody heard of nobody misses. Not to who was lost: nobody may be there
        to take it, and who closes the plane would wait for that."""
        broken = self.header(Stream.CONTROL, 0, 0, 0, part=Control.BROKEN, chunk=cause).pack()
        for to in self._there() - {cause}:
            push = self._plane.open()
            self._plane.connect(push, self.members[to])
            push.send_multipart((broken, b""), zmq.NOBLOCK)
            push.close(linger=LINGER_MS)

    def _there(self) -> set[int]:
        """The members that have neither gone nor left."""
        self._plane.connections.drain()
        return set(self.others) - set(self._plane.connections.gone(self.job, self.generation))

    def _check_silent(self) -> None:
        """Raises LostPeer when a member that never said hello cannot be reached.

        One that can be reached, or that could before it said farewell, is known by its hello.
        """
        now = time.monotonic()
        for rank in list(self._silent):
            monitor = self._silent[rank]
            if self._plane.connections.knows(Member(self.job, self.generation, rank)):
                self._push[rank].monitor(None, 0)
                self._silent.pop(rank).close(linger=0)
                self._missed.pop(rank, None)
            elif monitor.poll(0):
                monitor.recv_multipart()
                self._missed.setdefault(rank, now)
            if now - self._missed.get(rank, now) > SILENT_SECONDS_MAX:
                raise LostPeer(rank, "cannot be reached")


def _released(tracker: zmq.MessageTracker, seconds: float) -> bool:
    try:
        tracker.wait(seconds)
    except zmq.NotDone:
        return False
    return True
