"""The leader's knowledge of one peer's log, and how fast it may send to it.

As in etcd. Probe: one append at a time until the place where both logs meet is known. Replicate: a
stream of up to `max_inflight` unacknowledged appends. (Snapshot, the third state, comes with them.)
"""

from collections import deque
from enum import StrEnum


class ProgressState(StrEnum):
    """How appends are sent to a peer."""

    PROBE = "probe"
    REPLICATE = "replicate"


class Progress:
    """match: last entry known durable there, only rises. next: first entry to send, > match."""

    def __init__(
        self, next_index: int, max_inflight: int, active_tick: int, match: int = 0
    ) -> None:
        self.match = match
        self.next = next_index
        self.state = ProgressState.PROBE
        self.active_tick = active_tick  # tick of the leader's clock at its last answer
        self.paused = False  # Probe: an append is on its way
        self.nudge = False  # Replicate: send one append even without news, to find out about a loss
        self.sent_commit = 0  # greatest commit index that appends have told it
        self._inflight: deque[int] = deque()  # last index of each unacknowledged append
        self._max_inflight = max_inflight

    @property
    def inflight_full(self) -> bool:
        """Whether the window is used up."""
        return len(self._inflight) >= self._max_inflight

    def become_probe(self) -> None:
        """Go back to the last entry that is certain."""
        self._enter(ProgressState.PROBE)
        self.next = self.match + 1
        self.sent_commit = 0

    def become_replicate(self) -> None:
        """The logs meet at match: stream."""
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.paused = self.nudge = False
        self._inflight.clear()

    def sent(self, last_index: int, count: int, commit: int) -> None:
        """An append of `count` entries up to `last_index`, carrying `commit`, is on its way."""
        self.sent_commit = max(self.sent_commit, min(commit, last_index))
        self.nudge = False
        if self.state is ProgressState.PROBE:
            self.paused = True
        elif count:
            self.next = last_index + 1
            self._inflight.append(last_index)

    def acknowledged(self, index: int) -> bool:
        """Everything up to `index` is durable there. Returns whether that was news."""
        while self._inflight and self._inflight[0] <= index:
            self._inflight.popleft()
        self.next = max(self.next, index + 1)
        if index <= self.match:
            return False
        self.match = index
        self.paused = False
        return True

    def rejected(self, index: int, hint: int) -> bool:
        """It has no entry `index` like ours; `hint` is where they may still agree.

        Returns False when the rejection is older than what we know by now.
        """
        if self.state is ProgressState.REPLICATE:
            if index <= self.match:
                return False
            self.become_probe()
            return True
        if index != self.next - 1:
            return False
        self.next = max(min(index, hint + 1), self.match + 1)
        self.paused = False
        return True
