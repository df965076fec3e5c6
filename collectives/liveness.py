"""Who is still connected to a PULL socket, told by its monitor: which member of which generation.

A connection ends for us only after all that came over it has been queued (libzmq reads to the end
before it reports a connection closed). So whoever takes all that is queued, after a member was
reported gone, has all that this member ever sent.
"""

from collections import defaultdict
from typing import NamedTuple

import zmq
from zmq.utils.monitor import parse_monitor_message

from collectives.monitor import watch


class Member(NamedTuple):
    job: bytes
    generation: int
    rank: int


class Connections:
    """Attach it before the socket is bound. Belongs to the socket's thread."""

    def __init__(self, pull: "zmq.Socket[bytes]") -> None:
        self._pull = pull
        self.monitor = watch(pull, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._open: dict[int, Member | None] = {}  # by file descriptor
        self._known: set[Member] = set()  # said hello
        self._left: set[Member] = set()  # said farewell
        self._gone: defaultdict[tuple[bytes, int], list[int]] = defaultdict(list)

    def hello(self, fd: int, member: Member) -> None:
        """This member's frame came over connection `fd`."""
        self._known.add(member)
        self.drain()  # what was reported before the frame came, a former owner of `fd` among it
        if fd in self._open:
            self._open[fd] = member
        else:
            self._end(member)

    def farewell(self, member: Member) -> None:
        """It leaves its generation in order: nothing more will come from it."""
        self._left.add(member)
        self._end(member)

    def broken(self, member: Member, cause: int) -> None:
        """It has ended its generation, because of rank `cause` (its own: by itself)."""
        self._end(member._replace(rank=cause))
        self._end(member)

    def drain(self) -> None:
        """Take note of all that has been reported."""
        while self.monitor.poll(0):
            event = parse_monitor_message(self.monitor.recv_multipart())
            fd = int(event["value"])
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._open[fd] = None
            elif (member := self._open.pop(fd, None)) is not None:
                self._end(member)

    def gone(self, job: bytes, generation: int) -> list[int]:
        """The ranks that were lost or have left, the first first."""
        return self._gone[job, generation]

    def knows(self, member: Member) -> bool:
        """Whether it has ever said hello."""
        return member in self._known

    def has_left(self, member: Member) -> bool:
        return member in self._left

    def forget(self, job: bytes, below: int) -> None:
        """Generations of other jobs, and those < below, are of no interest any more."""
        for key in [k for k in self._gone if k[0] != job or k[1] < below]:
            del self._gone[key]
        self._known = {m for m in self._known if m.job == job and m.generation >= below}
        self._left = {m for m in self._left if m.job == job and m.generation >= below}
        for fd, member in self._open.items():
            if member is not None and (member.job != job or member.generation < below):
                self._open[fd] = None

    def close(self) -> None:
        self._pull.monitor(None, 0)
        self.monitor.close(linger=0)

    def _end(self, member: Member) -> None:
        ranks = self._gone[member.job, member.generation]
        if member.rank not in ranks:
            ranks.append(member.rank)
