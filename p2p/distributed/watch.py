"""When a collective cannot end, and who keeps it; when a rank may leave. Pure: the time is given.

The mailbox asks `look` whenever something happened or a moment of `deadlines` has come, and does
what it says. `begin` and `finish` bracket the collectives, which run on another thread.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from p2p.distributed.errors import GroupError
from p2p.distributed.letters import Kind
from p2p.distributed.presence import Presence

TICK_SECONDS = 0.1  # how often a running collective is looked at
ANSWER_SECONDS = 0.5  # how long the others have to say how far they are
GRACE_SECONDS = 0.3  # a connection ends a little before its rank's last letter may be read


@dataclass(frozen=True, slots=True)
class Break:
    """The group is over."""

    reason: str
    tell: bool  # whether the others need to be told


@dataclass(frozen=True, slots=True)
class Note:
    to: int
    kind: Kind


@dataclass(slots=True)
class Running:
    """The collective that runs now."""

    number: int
    name: str
    timeout: float
    deadline: float
    asked: float = 0.0  # when the others were asked for their progress


class Watch:
    def __init__(self, rank: int, size: int) -> None:
        self.presence = Presence(rank, size)
        self.running: Running | None = None
        self.begun = self.ended = 0  # collectives
        self.last_name = ""
        self.says_leave = False
        self._suspects: dict[int, float] = {}  # rank: when it counts as gone
        self._owed: dict[int, int] = {}  # rank that leaves: collectives it wants us to have ended
        self._may_leave: set[int] = set()  # ranks that need nothing more of us

    def begin(self, number: int, name: str, timeout: float, now: float) -> None:
        """Raises GroupError when it cannot end."""
        if departed := self.presence.departed(number):
            raise GroupError(f"{name} cannot end: {departed}")
        self.begun, self.last_name = number, name
        self.running = Running(number, name, timeout, now + timeout)

    def finish(self, number: int) -> bool:
        """True when a rank that leaves has waited for this."""
        self.running = None
        self.ended = number
        return bool(self._owed)

    def suspect(self, ranks: Iterable[int], now: float) -> None:
        """Their connections have ended: they have left, or died."""
        for rank in ranks:
            self._suspects.setdefault(rank, now + GRACE_SECONDS)

    def leaves(self, rank: int, ended: int) -> None:
        self.presence.left[rank] = ended
        self._owed[rank] = ended

    def may_leave(self, rank: int) -> None:
        self._may_leave.add(rank)

    @property
    def free(self) -> bool:
        """Nobody who is still here needs anything of us, or so they have said."""
        return not set(self.presence.still_here()) - self._may_leave

    def deadlines(self, now: float, *, broken: bool) -> list[float]:
        """When to look again though nothing has happened."""
        ends = list(self._suspects.values())
        if (running := self.running) is not None and not broken:
            ends.append(now + TICK_SECONDS)
            ends.append(running.asked + ANSWER_SECONDS if running.asked else running.deadline)
        return ends

    def look(self, now: float, *, broken: bool) -> Iterator[Break | Note]:
        yield from self._look_at_ranks(now, broken)
        if (running := self.running) is not None and not broken:
            yield from self._look_at(running, now)

    def _look_at_ranks(self, now: float, broken: bool) -> Iterator[Break | Note]:
        for rank, at in list(self._suspects.items()):
            if rank in self.presence.left:
                del self._suspects[rank]
            elif now >= at:
                del self._suspects[rank]
                self.presence.gone.add(rank)
                yield Break(f"rank {rank} ended without leaving the group", tell=False)
        for rank, ended in list(self._owed.items()):
            if self.says_leave:  # it counts this rank as left, and may be gone already
                del self._owed[rank]
            elif self.ended >= ended or broken:
                del self._owed[rank]
                yield Note(rank, Kind.MAY_LEAVE)

    def _look_at(self, running: Running, now: float) -> Iterator[Break | Note]:
        here = self.presence.still_here()
        if departed := self.presence.departed(running.number):
            yield Break(f"{running.name} cannot end: {departed}", tell=False)
        elif now >= running.deadline and not running.asked:
            running.asked = now
            self.presence.told.clear()
            yield from (Note(rank, Kind.ASK) for rank in here)
        elif running.asked and (
            set(here) <= set(self.presence.told) or now >= running.asked + ANSWER_SECONDS
        ):
            missing = self.presence.missing(running.number, running.name)
            in_time = f"within its timeout of {running.timeout:g} s"
            yield Break(f"{running.name} did not end {in_time}: {missing}", tell=True)
