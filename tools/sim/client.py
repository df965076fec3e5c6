"""Proposals: unique bytes, to whoever seems to lead, and sometimes to who does not."""

from functools import partial

from consensus.errors import ProposalDropped
from consensus.node import RawNode
from tools.sim.host import Host
from tools.sim.world import World

PROPOSALS_MAX = 400  # per run: what is checked is order and loss, not volume


class Client:
    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.stream("client")
        self.active = True
        self._sent = 0
        self._wait()

    def _wait(self) -> None:
        mean = self.world.parameters.propose_every
        self.world.after(int(self.rng.expovariate(1 / mean)), self._next)

    def _next(self) -> None:
        if not self.active or self._sent >= PROPOSALS_MAX:
            return
        targets = self.world.leaders()
        if self.rng.random() < 0.05:
            targets = self.world.up()
        if targets:
            self.burst(self.rng.choice(targets), self.rng.randint(1, self.world.parameters.burst))
        self._wait()

    def burst(self, target: Host, size: int) -> None:
        """Several proposals to one peer, which need not lead."""
        for _ in range(size):
            self._sent += 1
            padding = bytes(self.rng.randint(0, self.world.parameters.payload))
            target.put(partial(self._propose, data=b"%d " % self._sent + padding))

    def _propose(self, core: RawNode, data: bytes) -> None:
        try:
            core.propose(data)
            self.world.counts["proposals accepted"] += 1
        except ProposalDropped:
            self.world.counts["proposals dropped"] += 1
