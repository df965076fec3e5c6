"""Bookkeeping of linearizable reads: who asked, which round confirms it (dissertation §6.4)."""

from dataclasses import dataclass, field

FORWARDED_MAX = 1024  # rounds a follower remembers; what the leader never answered falls out


@dataclass(frozen=True, slots=True)
class ReadState:
    """Whoever asked with `context` may read once everything up to `index` is applied here."""

    index: int
    context: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """A read that waits for the next round; `sender` None: this host, else that follower."""

    sender: str | None
    context: bytes


@dataclass(slots=True)
class Round:
    """One round of heartbeats that confirms the leader for all reads that asked before it."""

    index: int
    asked: list[Asked]
    confirmed_by: set[str] = field(default_factory=set)


class Reads:
    """`asked` wait for a round; `rounds` of the leader and `forwarded` of a follower are on their
    way, oldest first, by a key that is never used twice; `states` are answered.
    """

    def __init__(self, incarnation: int) -> None:
        """`incarnation`: a random number, so that no key of an earlier life comes again."""
        self.asked: list[Asked] = []
        self.rounds: dict[bytes, Round] = {}
        self.forwarded: dict[bytes, list[Asked]] = {}
        self.states: list[ReadState] = []
        self._prefix = incarnation.to_bytes(8, "big")
        self._count = 0

    def new_key(self) -> bytes:
        """16 bytes for one attempt."""
        self._count += 1
        return self._prefix + self._count.to_bytes(8, "big")

    def newest_key(self) -> bytes:
        """Of the round that still needs confirmation; empty when none does."""
        return next(reversed(self.rounds), b"")

    def forward(self, key: bytes, asked: list[Asked]) -> None:
        """The leader was asked under `key`."""
        self.forwarded[key] = asked
        if len(self.forwarded) > FORWARDED_MAX:
            del self.forwarded[next(iter(self.forwarded))]

    def clear(self) -> None:
        """The term or the role changed: nothing that was asked before can be answered."""
        self.asked, self.rounds, self.forwarded = [], {}, {}
