"""The liveness phase: no more faults, and within a bound the cluster must be whole again."""

from consensus.errors import ProposalDropped
from consensus.node import RawNode
from tools.sim.host import Host
from tools.sim.parameters import SECOND
from tools.sim.violation import Violation
from tools.sim.world import World

GRACE = 60 * SECOND
ROUND_TRIPS_PER_ENTRY = 6  # what one entry per append and one append in flight may cost
LOOK_EVERY = SECOND // 4
PROBE = b"probe "


class Heal:
    """Waits for one leader, a proposal of the heal phase applied by all members, and equal logs."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._probe_index = 0
        self._probe_term = 0

    def run(self) -> int:
        """Returns the simulated time it took. Raises Violation when it takes too long."""
        begun = self.world.now
        longest = max(host.durable.log.last for host in self.world.hosts.values())
        round_trip = 2 * self.world.parameters.delay
        bound = GRACE + ROUND_TRIPS_PER_ENTRY * round_trip * longest
        while (why := self._missing()) is not None:
            if self.world.now - begun > bound:
                raise Violation("18 liveness", f"{bound // SECOND} s after the last fault, {why}.")
            self.world.run_until(self.world.now + LOOK_EVERY)
        return self.world.now - begun

    def _missing(self) -> str | None:
        leaders = self.world.leaders()
        if len(leaders) != 1:
            return f"{len(leaders)} peers lead: {', '.join(h.name for h in leaders) or 'nobody'}"
        leader = leaders[0]
        assert leader.view is not None
        if self._probe_term != leader.view.term:
            self._propose(leader)
            return "a new proposal is not accepted by the leader"
        members = self._members(leader)
        for host in members:
            if host.view is None or host.applied < self._probe_index:
                return f"{host.name} has not applied the new proposal at {self._probe_index}"
            if host.log.chain != leader.log.chain:
                return f"the logs of {host.name} and {leader.name} differ"
        return None

    def _members(self, leader: Host) -> list[Host]:
        assert leader.core is not None
        status = leader.core.status()
        return [self.world.hosts[name] for name in (*status.voters, *status.learners)]

    def _propose(self, leader: Host) -> None:
        def propose(core: RawNode) -> None:
            assert leader.view is not None
            try:
                self._probe_index = core.propose(PROBE)
                self._probe_term = leader.view.term
            except ProposalDropped:
                pass

        leader.put(propose)
