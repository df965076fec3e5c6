"""What the core may read of the durable log, and an implementation in memory."""

from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from consensus.messages import ConfState, Entry, HardState


class Storage(Protocol):
    """Read side. The host appends Ready.entries and Ready.hard_state before it calls advance()."""

    def initial_state(self) -> tuple[HardState, ConfState]:
        """The hard state, and the configuration at RaftConfig.applied (empty when applied is 0)."""

    def entries(self, low: int, high: int, max_bytes: int) -> Sequence[Entry]:
        """Entries low … high - 1, cut to max_bytes of data but at least one."""

    def term(self, index: int) -> int:
        """Term of the entry at `index`, 1 ≤ index ≤ last_index()."""

    def last_index(self) -> int:
        """Index of the last entry, 0 when empty."""


class MemoryStorage:
    """The whole log as a list: what a host keeps beside its write-ahead log; all a test needs."""

    def __init__(
        self,
        hard_state: HardState | None = None,
        entries: Sequence[Entry] = (),
        conf_state: ConfState | None = None,
    ) -> None:
        self.hard_state = hard_state or HardState()
        self.conf_state = conf_state or ConfState()
        self._entries: list[Entry] = []
        self.append(entries)

    def initial_state(self) -> tuple[HardState, ConfState]:
        """What was set last; see Storage."""
        return self.hard_state, self.conf_state

    def entries(self, low: int, high: int, max_bytes: int) -> list[Entry]:
        """See Storage."""
        return cut_to_bytes(self._entries[low - 1 : high - 1], max_bytes)

    def term(self, index: int) -> int:
        """See Storage."""
        return self._entries[index - 1].term

    def last_index(self) -> int:
        """See Storage."""
        return len(self._entries)

    def append(self, entries: Sequence[Entry]) -> None:
        """Replace everything from entries[0].index on by `entries`. Raises ValueError on a gap."""
        if not entries:
            return
        first = entries[0].index
        if not 1 <= first <= len(self._entries) + 1:
            raise ValueError(f"entry {first} does not follow the last entry {len(self._entries)}")
        del self._entries[first - 1 :]
        self._entries.extend(entries)

    def set_hard_state(self, hard_state: HardState) -> None:
        """Replace the hard state."""
        self.hard_state = hard_state


def cut_to_bytes(entries: list[Entry], max_bytes: int) -> list[Entry]:
    """The longest prefix whose data fits into max_bytes, but at least one entry."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry.data)
        if size > max_bytes and count:
            return list(islice(entries, count))
    return entries
