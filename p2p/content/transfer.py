"""How one file is fetched from several peers: whom to ask for which slice next. Pure.

Whoever fetches asks; at most WINDOW_SLICES are asked for and not yet written, so memory and what
waits in sockets are bounded. Slices are written in the order of the file, so a part of a file is a
beginning of it, and its length says all that a restart needs to know.

A source that refuses, or that stays silent STRIKES_MAX times, is asked no more. One that lies is
found by the hash of the whole: when it is wrong and several had a share in it, the file is fetched
again from one source after the other, and who then sends other bytes is named.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from p2p.content.messages import NOT_HERE, SLICE_BYTES

WINDOW_SLICES = 16
SOURCE_SLICES = 8  # of these, at most so many from one source
SILENT_S = 3.0
STRIKES_MAX = 3


@dataclass(frozen=True, slots=True)
class SliceWanted:
    source: str
    offset: int
    count: int


@dataclass(slots=True)
class _Source:
    asked_s: dict[int, float] = field(default_factory=dict)  # by offset, what is not answered yet
    strikes: int = 0
    dropped: str = ""  # why it is asked no more


class Transfer:
    """Ask wanted() what to ask for now, tell on_slice() and on_refusal() the answers, on_time() the
    time. When is_complete, check the hash and tell on_checked(). `failure` is the sentence at the
    end of a fetch that nobody could serve, `wrong` who has another file there, or cannot read it.
    """

    def __init__(self, size: int, sources: Sequence[str], have: int = 0) -> None:
        self.size = size
        self.have = have  # bytes, from the beginning, that were written
        self.restarts = 0  # how often all that was there had to go
        self.failure = ""
        self.wrong: set[str] = set()
        self._sources = {source: _Source() for source in sources}
        self._early: dict[int, bytes] = {}  # slices behind a gap, by offset
        self._gave: set[str | None] = {None} if have else set()  # who had a share; None: the disk
        self._alone: str | None = None  # whom alone to ask, once somebody has lied
        self._look_for_failure()

    @property
    def is_complete(self) -> bool:
        return self.have == self.size

    @property
    def dropped(self) -> dict[str, str]:
        """Sources that are asked no more, and why."""
        return {name: source.dropped for name, source in self._sources.items() if source.dropped}

    def wanted(self, now_s: float) -> Iterator[SliceWanted]:
        """What to ask for now; counts as asked."""
        asked = {offset for source in self._sources.values() for offset in source.asked_s}
        end = min(self.size, self.have + WINDOW_SLICES * SLICE_BYTES)
        for offset in range(self.have, end, SLICE_BYTES):
            if offset in asked or offset in self._early:
                continue
            name = self._least_busy()
            if name is None:
                return
            self._sources[name].asked_s[offset] = now_s
            yield SliceWanted(name, offset, min(SLICE_BYTES, self.size - offset))

    def on_slice(self, name: str, offset: int, data: bytes) -> list[bytes]:
        """What can be written now, one after the other; nothing for an answer to no question."""
        source = self._sources.get(name)
        if source is None or source.dropped or offset not in source.asked_s:
            return []
        del source.asked_s[offset]
        if len(data) != min(SLICE_BYTES, self.size - offset):
            self._drop(name, "sent a slice of another length", is_wrong=True)
            return []
        source.strikes = 0
        self._gave.add(name)
        self._early[offset] = data
        ready = []
        while self.have in self._early:
            ready.append(self._early.pop(self.have))
            self.have += len(ready[-1])
        return ready

    def on_refusal(self, name: str, offset: int, why: str) -> None:
        source = self._sources.get(name)
        if source is not None and offset in source.asked_s:
            self._drop(name, why, is_wrong=why != NOT_HERE)

    def on_time(self, now_s: float) -> list[str]:
        """Sources that were silent for too long; what they were asked for is asked for again."""
        silent = [
            name
            for name, source in self._sources.items()
            if source.asked_s and now_s - min(source.asked_s.values()) >= SILENT_S
        ]
        for name in silent:
            source = self._sources[name]
            source.asked_s.clear()
            source.strikes += 1
            if source.strikes >= STRIKES_MAX:
                self._drop(name, "does not answer")
        return silent

    def on_checked(self, is_sound: bool) -> None:
        """The whole has the right hash, or not; then everything written so far must go."""
        if is_sound:
            return
        if len(self._gave) == 1 and None not in self._gave:
            liar = str(self._gave.pop())
            self._drop(liar, "sent bytes that do not match the hash", is_wrong=True)
        else:
            self._ask_next_alone()
        self._restart()

    def _least_busy(self) -> str | None:
        free = [
            (len(source.asked_s), name)
            for name, source in self._sources.items()
            if not source.dropped
            and self._alone in (None, name)
            # Whoever was silent is asked for one slice, until it answers.
            and len(source.asked_s) < (1 if source.strikes else SOURCE_SLICES)
        ]
        return min(free)[1] if free else None

    def _drop(self, name: str, why: str, is_wrong: bool = False) -> None:
        self.wrong |= {name} if is_wrong else set()
        source = self._sources[name]
        source.dropped = why
        source.asked_s.clear()
        if self._alone == name:
            self._ask_next_alone()
            self._restart()
        self._look_for_failure()

    def _ask_next_alone(self) -> None:
        left = [name for name, source in self._sources.items() if not source.dropped]
        self._alone = left[0] if left else None

    def _restart(self) -> None:
        self.have = 0
        self.restarts += 1
        self._early.clear()
        self._gave.clear()
        for source in self._sources.values():
            source.asked_s.clear()

    def _look_for_failure(self) -> None:
        if all(source.dropped for source in self._sources.values()):
            told = "; ".join(f"{name} {why}" for name, why in self.dropped.items())
            self.failure = told or "no peer that could have it is reachable"
