"""The files this peer lacks: asked for again and again by whoever needs them, fetched once.

`want` is what an agent's action comes to: cheap to repeat at every plan, begins a fetch where none
runs, and after one that failed waits longer each time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2p.clock import Clock
from p2p.content.contract import Content, Fetched, Source
from p2p.replicated.state import State

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class _Failed:
    count: int
    again_s: float
    problem: str
    wrong: frozenset[str]
    asked: frozenset[tuple[str, str]]  # who: a peer and its process


class Fetching:
    """`changed` is called when a file came or could not be had."""

    def __init__(
        self, me: str, content: Content, clock: Clock, changed: Callable[[], None]
    ) -> None:
        self._me = me
        self._content = content
        self._clock = clock
        self._changed = changed
        self._running: dict[str, frozenset[tuple[str, str]]] = {}  # who is asked
        self._failed: dict[str, _Failed] = {}

    def want(
        self, state: State, sha256: str, size_bytes: int, from_peers: Sequence[str] = ()
    ) -> Path | None:
        """The file if it is here, else None, and it is on its way. `from_peers` are those who may
        have it, all others that live if there are none.
        """
        there = self._content.find(sha256)
        failed = self._failed.get(sha256)
        if there is not None or sha256 in self._running:
            return there
        sources = sources_of(state, self._me, from_peers)
        asked = frozenset((told.peer, state.members[told.peer].incarnation) for told in sources)
        # Who was not there the last time is asked at once, however often it has failed.
        is_news = failed is not None and not asked <= failed.asked
        if failed is None or is_news or self._clock.monotonic_s() >= failed.again_s:
            self._running[sha256] = asked
            self._content.fetch(sha256, size_bytes, sources, self._on_fetched)
        return None

    def failures(self, sha256: str) -> int:
        """How often in a row this file could not be had."""
        failed = self._failed.get(sha256)
        return failed.count if failed else 0

    def problem(self, sha256: str) -> str:
        """Why the last fetch of this file failed; it is tried again."""
        failed = self._failed.get(sha256)
        return failed.problem if failed else ""

    def wrong(self, sha256: str) -> frozenset[str]:
        """Who, at the last try, had the file not as it should be."""
        failed = self._failed.get(sha256)
        return failed.wrong if failed else frozenset()

    def forget(self, sha256: str) -> None:
        """Nobody wants it any more; what is there of it goes."""
        self._running.pop(sha256, None)
        self._failed.pop(sha256, None)
        self._content.cancel(sha256)
        self._content.drop(sha256)

    def _on_fetched(self, fetched: Fetched) -> None:
        asked = self._running.pop(fetched.sha256, frozenset())
        failed = self._failed.pop(fetched.sha256, None)
        if fetched.path is None:
            count = failed.count + 1 if failed else 1
            wait_s = min(RETRY_FIRST_S * 2 ** min(count - 1, 10), RETRY_MAX_S)
            again_s = self._clock.monotonic_s() + wait_s
            self._failed[fetched.sha256] = _Failed(
                *(count, again_s, fetched.problem, fetched.wrong, asked)
            )
        self._changed()


def sources_of(state: State, me: str, peers: Sequence[str] = ()) -> list[Source]:
    """Where other peers that live can be asked for a file; of `peers` only, if there are any."""
    return [
        Source(member.id, member.name, member.address)
        for member in sorted(state.members.values(), key=lambda member: member.id)
        if member.id != me and member.state == "alive" and (not peers or member.id in peers)
    ]
