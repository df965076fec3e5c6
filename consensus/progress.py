"""The leader's knowledge of one peer's log, and how fast it may send to it.

As in etcd. Probe: one append at a time until the place where both logs meet is known. Replicate: a
stream of appends, as far as the window of unacknowledged ones reaches. Snapshot: the log no longer
holds what the peer needs, its host sends the state instead; nothing else is sent until that ends.
"""

from enum import StrEnum

from consensus.inflights import Inflights


class ProgressState(StrEnum):
    """How appends are sent to a peer."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """match: last entry known durable there, only rises. next: first entry to send, > match."""

    def __init__(
        self, next_index: int, window: Inflights, active_tick: int = 0, match: int = 0
    ) -> None:
        self.match = match
        self.next = next_index
        self.state = ProgressState.PROBE
        self.active_tick = active_tick  # tick of the leader's clock at its last answer
        self.paused = False  # Probe: an append is on its way
        self.nudge = False  # Replicate: send one append even without news, to find out about a loss
        self.sent_commit = 0  # greatest commit index that appends have told it
        self.pending_snapshot = 0  # Snapshot: index of the one that is on its way
        self.window = window

    def become_probe(self) -> None:
        """Go back to the last entry that is certain."""
        self._enter(ProgressState.PROBE)
        self.next = self.match + 1
        self.sent_commit = 0

    def become_replicate(self) -> None:
        """The logs meet at match: stream."""
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """The state at `index` is on its way."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index

    def snapshot_ended(self, arrived: bool) -> None:
        """The transfer is over. The peer's own word, or the next heartbeat's answer, starts it."""
        index = self.pending_snapshot
        self.become_probe()
        if arrived:
            self.next = max(self.next, index + 1)
        self.paused = True

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.paused = self.nudge = False
        self.pending_snapshot = 0
        self.window.clear()

    def sent(self, last_index: int, count: int, size: int, commit: int) -> None:
        """An append of `count` entries, `size` bytes, up to `last_index` is on its way."""
        self.sent_commit = max(self.sent_commit, min(commit, last_index))
        self.nudge = False
        if self.state is ProgressState.PROBE:
            self.paused = True
        elif count:
            self.next = last_index + 1
            self.window.add(last_index, size)

    def acknowledged(self, index: int) -> bool:
        """Everything up to `index` is durable there. Returns whether that was news."""
        self.window.free_to(index)
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
        if self.state is ProgressState.SNAPSHOT or index != self.next - 1:
            return False
        self.next = max(min(index, hint + 1), self.match + 1)
        self.paused = False
        return True
