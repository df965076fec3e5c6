"""The nemesis: one function per kind of fault, each doing its harm and arranging its own end."""

import random
from collections.abc import Callable

from consensus.errors import ProposalDropped, TransferRefused
from consensus.node import RawNode
from tools.sim.client import Client
from tools.sim.host import CRASH_POINTS, Host
from tools.sim.members import Members
from tools.sim.network import Link
from tools.sim.parameters import MS, SECOND
from tools.sim.world import World


class Nemesis:
    """Strikes at random intervals until the fault phase ends; heal() undoes what is left."""

    def __init__(self, world: World, client: Client) -> None:
        self.world = world
        self._client = client
        self.rng: random.Random = world.stream("faults")
        self.active = True
        self._members = Members(world)
        self._strike = {name: getattr(self, name) for name in world.parameters.faults}
        world.on_elected = self._elected
        self._wait()

    def _elected(self, host: Host) -> None:
        """A new leader is asked for everything at once: the moment when guards matter most."""
        if not self.active or self.rng.random() < 0.5:
            return
        delay = self.rng.randint(0, 4 * self.world.parameters.delay)
        change = "membership" in self.world.parameters.faults and self.rng.random() < 0.5

        def ask() -> None:
            self._client.burst(host, self.rng.randint(0, 3))
            if change and host.is_leader:
                self._members.change()

        self._later(delay, ask)

    def _wait(self) -> None:
        mean = self.world.parameters.fault_every
        self.world.after(int(self.rng.expovariate(1 / mean)), self._next)

    def _next(self) -> None:
        if not self.active:
            return
        name = self.rng.choice(self.world.parameters.faults)
        if self._strike[name]():
            self.world.counts[f"fault {name}"] += 1
        self._wait()

    def heal(self) -> None:
        """No more faults; everybody is back, connected, and fast."""
        self.active = self._members.active = False
        self.world.network.perfect()
        for host in self.world.hosts.values():
            host.crash_at = None
            host.sync_time = min(host.sync_time, 1 * MS)
            if host.paused:
                host.unpause()
            self.world.restart(host)

    # Choices

    def _someone(self) -> Host | None:
        up = self.world.up()
        return self.rng.choice(up) if up else None

    def _leader_or_someone(self) -> Host | None:
        leaders = self.world.leaders()
        if leaders and self.rng.random() < 0.6:
            return self.rng.choice(leaders)
        return self._someone()

    def _seconds(self, mean: float) -> int:
        return int(self.rng.expovariate(1 / mean) * SECOND)

    def _later(self, delay: int, action: Callable[[], None]) -> None:
        """An end of a fault, unless the heal phase has already ended it."""
        self.world.after(delay, lambda: action() if self.active else None)

    # Processes

    def crash(self) -> bool:
        host = self._leader_or_someone()
        if host is None:
            return False
        self.world.crash(host, self.rng.random() < 0.7)
        return True

    def crash_many(self) -> bool:
        up = self.world.up()
        everyone = self.rng.random() < 0.3
        power_cut = self.rng.random() < 0.7
        for host in up if everyone else self.rng.sample(up, (len(up) + 1) // 2):
            self.world.crash(host, power_cut)
        return bool(up)

    def crash_inside_ready(self) -> bool:
        """The power goes at a chosen point of the next Ready, with some of its messages sent."""
        host = self._leader_or_someone()
        if host is None:
            return False
        host.crash_at = self.rng.randrange(CRASH_POINTS)
        return True

    def pause(self) -> bool:
        """SIGSTOP: the clock stands still, what arrives waits, and is all handled at once after."""
        host = self._leader_or_someone()
        if host is None or host.paused:
            return False
        host.pause()
        incarnation = host.incarnation
        self._later(
            self._seconds(2.0),
            lambda: host.unpause() if host.incarnation == incarnation and host.up else None,
        )
        return True

    def slow_disk(self) -> bool:
        host = self._leader_or_someone()
        if host is None:
            return False
        usual = self.world.parameters.sync_time
        host.sync_time = self._seconds(0.3)
        self._later(self._seconds(3.0), lambda: setattr(host, "sync_time", usual))
        return True

    # Network

    def _cut(self, links: list[Link], seconds: float) -> bool:
        if not links:
            return False
        self.world.network.cut(links)

        def mend() -> None:
            for message in self.world.network.mend(links):
                self.world.deliver(message)

        self._later(self._seconds(seconds), mend)
        return True

    def partition(self) -> bool:
        names = list(self.world.hosts)
        self.rng.shuffle(names)
        split = self.rng.randint(0, len(names))
        left, right = names[:split], names[split:]
        pairs = [(a, b) for a in left for b in right]
        return self._cut(pairs + [(b, a) for a, b in pairs], 4.0)

    def one_way(self) -> bool:
        """Some hear nothing from the others, though the others hear them."""
        names = list(self.world.hosts)
        self.rng.shuffle(names)
        split = self.rng.randint(0, len(names))
        return self._cut([(a, b) for a in names[:split] for b in names[split:]], 4.0)

    def isolate_leader(self) -> bool:
        leaders = self.world.leaders()
        if not leaders:
            return False
        leader = self.rng.choice(leaders)
        name = leader.name
        # What it appends now must give way later to what the others agree on.
        self._later(MS, lambda: self._client.burst(leader, self.rng.randint(0, 8)))
        others = [other for other in self.world.hosts if other != name]
        keep = self.rng.choice(others) if others and self.rng.random() < 0.4 else None
        cut = [other for other in others if other != keep]
        return self._cut([(name, o) for o in cut] + [(o, name) for o in cut], 3.0)

    def clog(self) -> bool:
        """Swizzle-clogging (FoundationDB): links stand still, and let go in any order."""
        names = list(self.world.hosts)
        for _ in range(self.rng.randint(1, 2 * len(names))):
            link = (self.rng.choice(names), self.rng.choice(names))
            self.world.network.clog(link, self.world.now + self._seconds(2.0))
        return True

    def storm(self) -> bool:
        rng = self.rng
        self.world.network.storm(rng.random() * 0.6, rng.random() * 0.5, rng.random() * 0.3)
        self._later(self._seconds(3.0), self.world.network.calm)
        return True

    def drop_connection(self) -> bool:
        """A peer sees a connection break: it tells its core, and may stand for election at once."""
        host = self._someone()
        if host is None:
            return False
        peer = self.rng.choice(list(self.world.hosts))
        campaign = self.rng.random() < 0.5

        def dropped(core: RawNode) -> None:
            core.report_unreachable(peer)
            if host.view is not None and host.view.leader == peer:
                core.forget_leader()
                if campaign:
                    core.campaign()

        host.put(dropped)
        return True

    # Requests to the core

    def campaign(self) -> bool:
        host = self._someone()
        if host is not None:
            host.put(RawNode.campaign)
        return host is not None

    def transfer(self) -> bool:
        host = self._leader_or_someone()
        if host is None:
            return False
        to = self.rng.choice(list(self.world.hosts))

        def request(core: RawNode) -> None:
            try:
                core.transfer_leader(to)
            except (TransferRefused, ProposalDropped):
                self.world.counts["transfers refused"] += 1

        host.put(request)
        return True

    def membership(self) -> bool:
        return self._members.change()
