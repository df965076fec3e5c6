"""A peer of a transcript: one core with its disk that tells, in words, what it does."""

from random import Random
from typing import Any

from consensus.config import RaftConfig
from consensus.messages import Message
from consensus.node import RawNode, Ready
from consensus.storage import MemoryStorage
from tests.raft_cluster import ELECTION, HEARTBEAT, Peer
from tests.transcript_text import shown_entries, shown_members, shown_role


class NotRandom(Random):
    """Draws the smallest number."""

    def randrange(self, *_: Any, **__: Any) -> int:
        return 0


class Actor(Peer):
    """One core with its disk; `told` collects what it did since it was asked last."""

    def __init__(self, id: str, storage: MemoryStorage, options: dict[str, Any]) -> None:
        times = {"election_ticks": ELECTION, "heartbeat_ticks": HEARTBEAT}
        super().__init__(id, storage, **(times | options))
        self.node = RawNode(RaftConfig(id=id, **(times | options)), storage, NotRandom())
        self.told: list[str] = []
        self.is_down = False
        self._before = self._picture()

    def finish(self, ready: Ready) -> tuple[Message, ...]:
        if ready.snapshot is not None:
            snapshot = ready.snapshot
            self.told.append(f"starts over from the snapshot {snapshot.index}/{snapshot.term}")
        if ready.entries:
            first = ready.entries[0].index
            is_cut = first <= self.storage.last_index()
            cut = f"forgets from {first} on, " if is_cut else ""
            self.told.append(f"{cut}stores {shown_entries(ready.entries)}")
        messages = super().finish(ready)
        if ready.committed:
            self.told.append(f"applies {shown_entries(ready.committed)}")
        for read in ready.read_states:
            self.told.append(f"may read {read.context.decode()} at {read.index}")
        return messages

    def news(self) -> list[str]:
        """What changed since the last call."""
        now, before = self._picture(), self._before
        self._before = now
        told, self.told = self.told, []
        if now[0] != before[0]:
            told.insert(0, f"is {now[0]}")
        if now[1] != before[1]:
            told.append(f"members: {now[1]}")
        return [f"{self.id} {line}" for line in told]

    def _picture(self) -> tuple[str, str]:
        status = self.node.status()
        return shown_role(status), shown_members(status)
