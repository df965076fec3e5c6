"""Proposals: unique bytes, to whoever seems to lead, and sometimes to who does not."""

from consensus.errors import ProposalDropped
from consensus.node import RawNode
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
        if not targets or self.rng.random() < 0.02:
            targets = self.world.up()
        if targets:
            target = self.rng.choice(targets)
            for _ in range(self.rng.randint(1, self.world.parameters.burst)):
                self._sent += 1
                padding = bytes(self.rng.randint(0, self.world.parameters.payload))
                data = b"%d " % self._sent + padding
                target.put(lambda core, data=data: self._propose(core, data))  # type: ignore[misc]
        self._wait()

    def _propose(self, core: RawNode, data: bytes) -> None:
        try:
            core.propose(data)
            self.world.counts["proposals accepted"] += 1
        except ProposalDropped:
            self.world.counts["proposals dropped"] += 1
