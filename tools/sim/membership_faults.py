"""Peers that come, leave, and are removed; and configurations that nobody planned."""

from typing import TYPE_CHECKING

from consensus.changes import ConfChange, ConfChangeType
from consensus.errors import ProposalDropped
from tools.sim.host import Host
from tools.sim.requests import ask
from tools.sim.world import PEERS_EVER_MAX

if TYPE_CHECKING:
    from tools.sim.faults import Nemesis


class MembershipFaults:
    def __init__(self, nemesis: "Nemesis") -> None:
        self.nemesis = nemesis
        self.world = nemesis.world
        self.rng = nemesis.rng
        self.moves = 0

    def join(self) -> bool:
        if len(self.world.hosts) >= PEERS_EVER_MAX or len(self.world.up()) > 6:
            return False
        self.world.start(self.world.add_host())
        return True

    def leave(self) -> bool:
        """SIGTERM: the peer drains, ends, and comes back later."""
        host = self.nemesis.someone()
        if host is None or host.process is None or len(self.world.up()) < 2:
            return False
        host.call(host.process.drain)
        return True

    def move(self) -> bool:
        """The peer ends, and comes back at another address, which nobody knows."""
        host = self.nemesis.someone()
        if host is None or self._is_any_removed() or not self._all_found():
            return False
        self.world.crash(host, self.rng.random() < 0.3)
        self.moves += 1
        host.address = f"10.1.0.{self.moves}:7000"
        self.world.note(host.name, f"moves to {host.address}")
        return True

    def _is_any_removed(self) -> bool:
        return any(host.removing for host in self.world.hosts.values() if not host.gone)

    def _all_found(self) -> bool:
        """Whether everybody would find the others. If two move at once, they lose each other; so
        do one that moves and one that is removed, whose address nobody keeps over a restart.
        """
        at = {host.name: host.address for host in self.world.hosts.values() if not host.gone}
        return all(
            member.address == at[member.id]
            for host in self.world.hosts.values()
            if host.incarnation and not host.gone
            for member in (host.state().members.values() if host.up else ())
            if member.id in at
        )

    def remove(self) -> bool:
        host = self.nemesis.someone()
        via = self.nemesis.someone()
        if host is None or via is None:
            return False
        # A sole voter votes on until another can; until then nobody else may vanish.
        if not (self.world.may_lose([host.name]) or self.world.is_sole_voter(host)):
            return False
        if self._is_any_removed() or not self._all_found():
            return False
        host.removing = True
        ask(via, "remove", peer=host.name)
        return True

    def configure(self) -> bool:
        """A change that the autopilot did not plan, straight to the core; often two in a row."""
        leaders = self.world.leaders()
        if not leaders:
            return False
        return any(self._change(self.rng.choice(leaders)) for _ in range(self.rng.randint(1, 2)))

    def _change(self, leader: Host) -> bool:
        if not leader.up:
            return False
        voters, learners = sorted(leader.halves()[0]), sorted(leader.learners())
        kind = self.rng.choice(
            (ConfChangeType.ADD_VOTER, ConfChangeType.ADD_LEARNER, ConfChangeType.REMOVE)
        )
        peer = self.rng.choice(learners or voters if kind == 0 else voters)
        left = [v for v in voters if v != peer and not self.world.hosts[v].is_lost]
        if kind != ConfChangeType.ADD_VOTER and 2 * len(left) <= len(voters) - 1:
            return False  # it would rest on peers that never come back
        if kind == ConfChangeType.ADD_VOTER and self.world.hosts[peer].is_lost:
            return False
        return self._propose(leader, ConfChange.one(kind, peer))

    def _propose(self, leader: Host, change: ConfChange) -> bool:
        done: list[int] = []

        def propose() -> None:
            assert leader.core is not None
            assert leader.peer is not None
            try:
                done.append(leader.core.propose_conf_change(change))
                self.world.counts["configurations proposed"] += 1
            except ProposalDropped:
                self.world.counts["configurations refused"] += 1
            leader.peer.advance()

        leader.call(propose)
        return bool(done)
