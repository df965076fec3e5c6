"""The core under everything at once: loss, delay, duplicates, crashes, compaction, joint changes,
transfers and reads, from one seed. Replay: pytest "tests/test_consensus_storm.py::test_a_storm[7]"
"""

from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest

from consensus.changes import ConfChange, ConfChangeType, Step, Transition
from consensus.errors import ProposalDropped, TransferRefused
from consensus.messages import Entry, Message
from consensus.node import RawNode, Role
from consensus.progress import ProgressState
from tests.raft_cluster import ELECTION, Peer, lone

IDS = "abcdefg"
FOUNDERS = "abc"


class Storm:
    """Peers, what is between them, and what was ever true."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.seed = seed
        self.now = 0
        self.lives = 0
        options = {
            "max_inflight": self.rng.choice((1, 2, 64)),
            "max_append_bytes": self.rng.choice((1, 30, 1 << 20)),
            "max_apply_bytes": self.rng.choice((1, 30, 1 << 20)),
            "learner_heartbeat_ticks": self.rng.choice((0, 4)),
        }
        self.options = options
        self.peers = {
            id: Peer(id, lone(id, voters=FOUNDERS).storage, seed, **options) for id in IDS
        }
        self.loss = self.rng.choice((0.0, 0.05, 0.2))
        self.late = self.rng.choice((0.0, 0.1))
        self.cut: set[str] = set()
        self.air: list[tuple[int, Message]] = []
        self.leaders: dict[int, str] = {}
        self.agreed: dict[int, tuple[int, bytes]] = {}
        self.checked: dict[str, int] = dict.fromkeys(IDS, 0)
        self.commits: dict[str, int] = dict.fromkeys(IDS, 0)
        self.floors: dict[bytes, int] = {}
        self.answered = 0

    # -- what happens ------------------------------------------------------------------------------

    def send(self, messages: list[Message]) -> None:
        for message in messages:
            if self.rng.random() < self.loss or {message.to, message.sender} & self.cut:
                continue
            copies = 2 if self.rng.random() < 0.05 else 1
            for _ in range(copies):
                delay = self.rng.randrange(60) if self.rng.random() < self.late else 1
                self.air.append((self.now + delay, message))

    def deliver(self) -> None:
        due = [message for at, message in self.air if at <= self.now]
        self.air = [(at, message) for at, message in self.air if at > self.now]
        self.rng.shuffle(due)
        for message in due:
            if message.to in self.peers and not {message.to, message.sender} & self.cut:
                self.peers[message.to].node.step(message)
                self.drain(message.to)

    def drain(self, id: str) -> None:
        peer = self.peers[id]
        if peer.held is None:
            self.send(peer.drain())
        self.check(peer)

    def act(self) -> None:
        id = self.rng.choice(IDS)
        peer = self.peers[id]
        match self.rng.randrange(14):
            case 0 | 1 | 2:
                self.everywhere(lambda node: node.propose(b"%d" % self.now))
            case 3:
                change = self.change()
                self.everywhere(lambda node: node.propose_conf_change(change))
            case 4 if self.rng.random() < 0.4:
                self.crash(id)
            case 5:
                peer.hold_disk = peer.held is None and self.rng.random() < 0.5
            case 6 if peer.held is None and peer.node.status().applied:
                peer.compact(keep=self.rng.randrange(4))
            case 7 if self.rng.random() < 0.4:
                self.cut = set(self.rng.sample(IDS, self.rng.randrange(4)))
            case 8 | 9:
                self.read(id)
            case 10 if (target := self.rng.choice(IDS)) and self.rng.random() < 0.3:
                with suppress(TransferRefused):
                    peer.node.transfer_leader(target)
            case 11:
                self.report(peer)
            case 12:
                peer.node.forget_leader()
        self.drain(id)

    def everywhere(self, propose: Callable[[RawNode], int]) -> None:
        """Whoever leads takes it, or believes to."""
        for id, peer in self.peers.items():
            with suppress(ProposalDropped):
                propose(peer.node)
                self.drain(id)

    def change(self) -> ConfChange:
        steps = tuple(
            Step(ConfChangeType(self.rng.randrange(3)), peer)
            for peer in self.rng.sample(IDS, self.rng.randrange(4))
        )
        return ConfChange(steps, Transition(self.rng.choice((0, 0, 0, 1, 2))))

    def crash(self, id: str) -> None:
        """Whatever is held by the disk is lost, whatever was sent is not taken back."""
        self.lives += 1
        self.peers[id] = Peer(id, self.peers[id].storage, self.lives, **self.options)
        self.checked[id] = 0
        self.commits[id] = 0

    def read(self, id: str) -> None:
        context = b"%d" % len(self.floors)
        try:
            self.peers[id].node.read_index(context)
        except ProposalDropped:
            return
        self.floors[context] = max(self.agreed, default=0)

    def report(self, peer: Peer) -> None:
        for other, seen in peer.node.status().progress.items():
            if seen.state is ProgressState.SNAPSHOT:
                peer.node.report_snapshot(other, ok=self.rng.random() < 0.5)

    # -- what must hold ----------------------------------------------------------------------------

    def check(self, peer: Peer) -> None:
        status = peer.node.status()
        if status.role is Role.LEADER:
            assert self.leaders.setdefault(status.term, peer.id) == peer.id, "two leaders"
            for seen in status.progress.values():
                assert seen.match < seen.next
        assert status.commit >= self.commits[peer.id], "the commit index went back"
        self.commits[peer.id] = status.commit
        for entry in peer.applied[self.checked[peer.id] :]:
            self.agree(entry)
        self.checked[peer.id] = len(peer.applied)
        for before, after in zip(peer.applied, peer.applied[1:], strict=False):
            if after.index != before.index + 1:
                assert any(meta.index == after.index - 1 for meta in peer.restored), "a gap"
        for state in peer.reads:
            assert state.index >= self.floors[state.context], "a stale read"
            self.answered += 1
        peer.reads.clear()

    def agree(self, entry: Entry) -> None:
        known = self.agreed.setdefault(entry.index, (entry.term, entry.data))
        assert known == (entry.term, entry.data), f"two entries {entry.index}"

    # -- the run -----------------------------------------------------------------------------------

    def step(self) -> None:
        self.now += 1
        for id, peer in self.peers.items():
            peer.node.tick()
            if peer.held is not None and self.rng.random() < 0.3:
                self.send(peer.release())
            self.drain(id)
        self.deliver()

    def heal(self) -> None:
        """No more faults: somebody must lead, and every member end with the same log."""
        self.loss = self.late = 0.0
        self.cut, self.air = set(), []
        for peer in self.peers.values():
            self.send(peer.release())
        last = 0
        for round in range(40 * ELECTION):
            self.step()
            for peer in self.peers.values():
                if round % ELECTION == 0:
                    self.report(peer)
                status = peer.node.status()
                if status.role is Role.LEADER and round > 10 * ELECTION and not last:
                    last = peer.node.propose(b"last")
                self.drain(peer.id)
        leading = [p.node.status() for p in self.peers.values() if p.node.status().progress]
        assert len(leading) == 1, "no leader, or several"
        members = leading[0].voters + leading[0].learners + leading[0].voters_outgoing
        assert last
        assert {self.peers[id].node.status().applied for id in members} == {leading[0].last_index}


@pytest.mark.parametrize("seed", range(8))
def test_a_storm(seed: int) -> None:
    storm = Storm(seed)
    for _ in range(300):
        storm.step()
        storm.act()
    storm.heal()
    assert storm.agreed
