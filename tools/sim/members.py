"""Peers that come and go: single membership changes proposed to whoever believes to lead."""

from consensus.changes import ConfChange, ConfChangeType
from consensus.errors import ProposalDropped
from consensus.node import RawNode
from tools.sim.host import Host
from tools.sim.parameters import SECOND
from tools.sim.world import PEERS_EVER_MAX, World

MEMBERS_MAX = 7


class Members:
    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.stream("members")
        self.active = True
        self._reaping = self.rng.random() < 0.5
        if world.parameters.grown:
            world.after(SECOND // 2, self._grow)
        world.after(2 * SECOND, self._reap)

    def _grow(self) -> None:
        """A founder's cluster takes in the others one by one."""
        if not self.active:
            return
        for leader in self.world.leaders():
            status = self._conf(leader)
            if len(status[0]) + len(status[1]) < self.world.parameters.peers:
                self._propose(leader, ConfChangeType.ADD_VOTER, None)
            elif self.rng.random() < 0.5:
                return
        if len(self.world.hosts) < PEERS_EVER_MAX:
            self.world.after(int(self.rng.expovariate(2) * SECOND), self._grow)

    def change(self) -> bool:
        """Any change that a leader may be asked for, sensible or not; often two in a row."""
        leaders = self.world.leaders()
        if not leaders:
            return False
        done = False
        for _ in range(self.rng.choice((1, 1, 2))):
            done = self._change(self.rng.choice(leaders)) or done
        return done

    def _change(self, leader: Host) -> bool:
        if not leader.up:
            return False
        voters, learners = self._conf(leader)
        members = voters + learners
        kinds = ["remove", "remove", "demote", "promote", "stranger"]
        if len(members) < MEMBERS_MAX and len(self.world.hosts) < PEERS_EVER_MAX:
            kinds += ["voter", "learner", "voter"]
        match self.rng.choice(kinds):
            case "voter":
                return self._propose(leader, ConfChangeType.ADD_VOTER, None)
            case "learner":
                return self._propose(leader, ConfChangeType.ADD_LEARNER, None)
            case "promote" if learners:
                return self._propose(leader, ConfChangeType.ADD_VOTER, self.rng.choice(learners))
            case "demote" if voters:
                return self._propose(leader, ConfChangeType.ADD_LEARNER, self.rng.choice(voters))
            case "remove" if members:
                return self._propose(leader, ConfChangeType.REMOVE, self.rng.choice(members))
        return self._propose(leader, ConfChangeType.REMOVE, "nobody")

    def _conf(self, host: Host) -> tuple[list[str], list[str]]:
        assert host.core is not None
        status = host.core.status()
        return list(status.voters), list(status.learners)

    def _propose(self, leader: Host, kind: ConfChangeType, peer: str | None) -> bool:
        """A peer of None is a new one: its empty process is up before anybody knows of it."""
        accepted: list[int] = []
        name = peer or f"n{len(self.world.hosts) + 1}"

        def propose(core: RawNode) -> None:
            try:
                accepted.append(core.propose_conf_change(ConfChange.one(kind, name)))
                self.world.counts[f"membership {kind.name.lower()} proposed"] += 1
            except ProposalDropped:
                self.world.counts["membership refused"] += 1
                return
            if peer is None and name not in self.world.hosts:
                self.world.start(self.world.hosts[self.world.add_host()])

        leader.put(propose)
        return bool(accepted)

    def _reap(self) -> None:
        """Stop removed peers for good, once a majority of what remains has applied their removal.

        Before that they may still be needed: a removal that only the leaver knows to be committed.
        Until then, and for ever in runs that do not reap, they stay and disturb.
        """
        if not self.active or not self._reaping:
            return
        self.world.after(2 * SECOND, self._reap)
        configurations = self.world.oracle.configurations
        if not configurations:
            return
        newest = max(configurations)
        voters, learners = configurations[newest]
        knowing = [v for v in voters if v in self.world.hosts and self._knows(v, newest)]
        if len(knowing) * 2 <= len(voters):
            return
        mentioned = frozenset[str]().union(*(a | b for a, b in configurations.values()))
        for name in sorted(mentioned - voters - learners):
            host = self.world.hosts.get(name)
            if host is not None and host.up:
                host.stop(power_cut=False)
                host.destroyed = True
                self.world.counts["removed peers stopped"] += 1
                self.world.note(name, "is gone for good")

    def _knows(self, name: str, index: int) -> bool:
        return self.world.hosts[name].durable.commit >= index
