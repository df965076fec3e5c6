"""What the commands of a transcript do: cores on memory disks and a network the story decides on.

Nothing is random: every election timeout is exactly ELECTION ticks. Whatever a command makes a
peer do is done at once (persisted, applied), unless its disk is slow; what it sends waits in the
network until the story delivers, drops or delays it.
"""

from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from typing import Any

from consensus.changes import SnapshotMeta
from consensus.errors import RaftError
from consensus.messages import Entry, EntryType, HardState, Message
from consensus.storage import MemoryStorage
from tests.raft_cluster import base
from tests.transcript_actor import Actor
from tests.transcript_text import (
    change_of,
    shown_message,
    shown_role,
    shown_status,
)

ROUNDS_MAX = 200


class World:
    """Actors and a network. `do(line)` runs one command and returns what was seen."""

    def __init__(self) -> None:
        self.actors: dict[str, Actor] = {}
        self.network: list[Message] = []
        self.late: list[Message] = []
        self.cut: set[tuple[str, str]] = set()
        self.options: dict[str, Any] = {}
        self.conf = SnapshotMeta()
        self.reads = 0

    def do(self, line: str) -> list[str]:
        name, *words = line.split()
        command: Callable[..., list[str] | None] = getattr(self, f"do_{name.replace('-', '_')}")
        try:
            seen = command(*words) or []
        except RaftError as error:
            seen = [f"{type(error).__name__}: {error}"]
        return [*seen, *self.work()]

    def work(self) -> list[str]:
        """Everybody does what there is to do; what they send is in the network then."""
        seen = []
        for actor in self.actors.values():
            if not actor.is_down and actor.held is None:
                self.network += actor.drain()
            seen += actor.news()
        return seen

    # -- the cast ----------------------------------------------------------------------------------

    def do_peers(self, *words: str) -> None:
        """peers a b c [learners d] [with pre_vote=0 max_inflight=2]: empty logs."""
        listed, _, options = " ".join(words).partition(" with ")
        voters, _, learners = listed.partition("learners")
        self.conf = base(voters.split(), learners.split())
        self.options = {}
        for option in options.split():
            key, _, value = option.partition("=")
            self.options[key] = bool(int(value)) if key in BOOLEANS else int(value)
        for id in voters.split() + learners.split():
            self._start(id, MemoryStorage(snapshot=self.conf))

    def do_log(self, id: str, *words: str) -> None:
        """log a 1 1 2 [term 3] [vote b] [commit 2]: entries of these terms, before the story."""
        terms = [int(word) for word in _until_word(words)]
        named = dict(zip(words[len(terms) :: 2], words[len(terms) + 1 :: 2], strict=True))
        entries = [Entry(i, t, EntryType.NORMAL, b"e%d" % i) for i, t in enumerate(terms, 1)]
        commit = int(named.get("commit", 0))
        term = int(named.get("term", max(terms, default=0)))
        hard = HardState(term, named.get("vote"), commit)
        start = SnapshotMeta(commit, terms[commit - 1] if commit else 0, self.conf.conf)
        self._start(id, MemoryStorage(hard, entries, start))

    def do_join(self, id: str) -> None:
        """join d: an empty peer that knows nobody."""
        self._start(id, MemoryStorage())

    def _start(self, id: str, storage: MemoryStorage) -> None:
        self.actors[id] = Actor(id, storage, self.options)

    # -- prompts -----------------------------------------------------------------------------------

    def do_campaign(self, id: str) -> None:
        self.actors[id].node.campaign()

    def do_elect(self, id: str) -> list[str]:
        """What stories begin with, in one line: the others lost their leader and `id` wins."""
        for actor in self.actors.values():
            actor.node.forget_leader()
        self.actors[id].node.campaign()
        self.work()
        self.do_deliver()
        return [f"{id} is {shown_role(self.actors[id].node.status())}"]

    def do_forget_leader(self, *ids: str) -> None:
        for id in ids:
            self.actors[id].node.forget_leader()

    def do_tick(self, id: str, count: str = "1") -> list[str]:
        """tick a 3, or tick all 3: one after the other, with all work in between."""
        seen = []
        for _ in range(int(count)):
            for actor in self._chosen(id):
                actor.node.tick()
            seen += self.work()
        return seen

    def do_propose(self, id: str, *texts: str) -> list[str]:
        """propose a x y; "x*100" is a hundred bytes."""
        seen = []
        for text in texts:
            word, _, count = text.partition("*")
            try:
                self.actors[id].node.propose(word.encode() * int(count or 1))
            except RaftError as error:
                seen.append(f"{type(error).__name__}: {error}")
        return seen

    def do_change(self, id: str, *words: str) -> None:
        """change a add-voter d [remove b …] [explicit|implicit], or change a leave."""
        self.actors[id].node.propose_conf_change(change_of(words))

    def do_transfer(self, id: str, to: str) -> None:
        self.actors[id].node.transfer_leader(to)

    def do_read(self, *ids: str) -> list[str]:
        """read a b: each asks; every attempt has a name of its own (r1, r2, …)."""
        seen = []
        for id in ids:
            self.reads += 1
            try:
                self.actors[id].node.read_index(b"r%d" % self.reads)
            except RaftError as error:
                seen.append(f"{type(error).__name__}: {error}")
        return seen

    def do_unreachable(self, id: str, peer: str) -> None:
        self.actors[id].node.report_unreachable(peer)

    # -- disks and processes -----------------------------------------------------------------------

    def do_disk(self, id: str, state: str) -> None:
        """disk a slow: nothing becomes durable until disk a done."""
        actor = self.actors[id]
        if state == "slow":
            actor.hold_disk = True
        else:
            self.network += actor.release()

    def do_crash(self, *ids: str) -> None:
        """What was not durable is gone; what it had sent is on its way."""
        for id in ids:
            self.actors[id].is_down = True

    def do_restart(self, *ids: str) -> None:
        """It starts from its snapshot and applies the rest again, once it knows what to commit."""
        for id in ids:
            self._start(id, self.actors[id].storage)

    def do_compact(self, id: str, index: str = "") -> None:
        """compact a 5: a snapshot of all that is applied, and entries up to 5 (all) forgotten."""
        actor = self.actors[id]
        at, conf = actor.node.status().applied, actor.node._raft.conf_state
        actor.storage.create_snapshot(SnapshotMeta(at, actor.storage.term(at), conf))
        actor.storage.compact(int(index or at))

    def do_snapshot_arrived(self, id: str, peer: str) -> None:
        self.actors[id].node.report_snapshot(peer, True)

    def do_snapshot_failed(self, id: str, peer: str) -> None:
        self.actors[id].node.report_snapshot(peer, False)

    # -- the network -------------------------------------------------------------------------------

    def do_deliver(self, *patterns: str) -> list[str]:
        """deliver: until all is quiet. deliver a->b MsgApp: what matches now, no reactions."""
        if patterns:
            return self._arrive(self._take(patterns))
        seen: list[str] = []
        for _ in range(ROUNDS_MAX):
            if not self.network:
                return seen
            batch, self.network = self.network, []
            seen += self._arrive(batch)
        return [*seen, f"still talking after {ROUNDS_MAX} rounds"]

    def do_drop(self, *patterns: str) -> list[str]:
        return [f"lost: {shown_message(message)}" for message in self._take(patterns)]

    def do_delay(self, *patterns: str) -> list[str]:
        """Takes what matches out of the network until `late`."""
        taken = self._take(patterns)
        self.late += taken
        return [f"delayed: {shown_message(message)}" for message in taken]

    def do_copy(self, *patterns: str) -> list[str]:
        """As delay, but the original stays: it will arrive twice."""
        found = [message for message in self.network if _matches(message, patterns)]
        self.late += found
        return [f"copied: {shown_message(message)}" for message in found]

    def do_late(self, *patterns: str) -> list[str]:
        batch = [message for message in self.late if _matches(message, patterns)]
        self.late = [message for message in self.late if message not in batch]
        return self._arrive(batch)

    def do_cut(self, *links: str) -> None:
        """cut a (from everybody), cut a->b (one way)."""
        for link in links:
            sender, arrow, to = link.partition("->")
            others = [id for id in self.actors if id != sender]
            pairs = (
                [(sender, to)] if arrow else [p for o in others for p in ((sender, o), (o, sender))]
            )
            self.cut.update(pairs)

    def do_heal(self) -> None:
        self.cut.clear()

    def do_pending(self) -> list[str]:
        return [shown_message(message) for message in self.network]

    def do_status(self, *ids: str) -> list[str]:
        return [
            line
            for actor in self.actors.values()
            if not ids or actor.id in ids
            for line in shown_status(actor)
        ]

    def _take(self, patterns: Iterable[str]) -> list[Message]:
        taken = [message for message in self.network if _matches(message, patterns)]
        self.network = [message for message in self.network if not _matches(message, patterns)]
        return taken

    def _arrive(self, batch: list[Message]) -> list[str]:
        seen = []
        for message in batch:
            actor = self.actors.get(message.to)
            is_lost = actor is None or actor.is_down or (message.sender, message.to) in self.cut
            seen.append(("lost: " if is_lost else "") + shown_message(message))
            if is_lost or actor is None:
                continue
            try:
                actor.node.step(Message.from_wire(message.to_wire()))
            except RaftError as error:
                seen.append(f"  {actor.id} {type(error).__name__}: {error}")
            seen += [f"  {line}" for line in self.work()]
        return seen

    def _chosen(self, id: str) -> list[Actor]:
        every = [actor for actor in self.actors.values() if not actor.is_down]
        return every if id == "all" else [self.actors[id]]


BOOLEANS = {"pre_vote", "check_quorum"}


def _until_word(words: tuple[str, ...]) -> list[str]:
    count = next((n for n, word in enumerate(words) if not word.isdigit()), len(words))
    return list(words[:count])


def _matches(message: Message, patterns: Iterable[str]) -> bool:
    """a->b or a->* or MsgApp; all given must match."""
    link = f"{message.sender}->{message.to}"
    return all(fnmatch(link if "->" in p else str(message.type), p) for p in patterns)
