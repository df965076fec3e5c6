"""The nemesis: one function per kind of fault, each doing its harm and arranging its own end."""

import random
from collections.abc import Callable

from tools.sim.host import Host
from tools.sim.membership_faults import MembershipFaults
from tools.sim.network import Way
from tools.sim.operators import Operators
from tools.sim.parameters import MS, SECOND
from tools.sim.requests import ask, junk, read
from tools.sim.storage_faults import StorageFaults
from tools.sim.world import World


class Nemesis:
    """Strikes at random intervals until the fault phase ends; heal() undoes what is left."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng: random.Random = world.stream("faults")
        self.active = True
        storage, members = StorageFaults(self), MembershipFaults(self)
        self._strike: dict[str, Callable[[], bool]] = {
            name: next(getattr(o, name) for o in (self, storage, members) if hasattr(o, name))
            for name in world.parameters.faults
        }
        self._members = members
        world.on_elected = self._elected
        if world.parameters.jobs:
            Operators(self)
        self._wait()

    def _elected(self, host: Host) -> None:
        """A new leader is asked for everything at once: the moment when guards matter most."""
        if not self.active or self.rng.random() < 0.5:
            return
        count = self.rng.randint(0, self.world.parameters.junk)
        change = "configure" in self.world.parameters.faults and self.rng.random() < 0.5

        def propose() -> None:
            junk(host, count)
            if change and host.is_leader:
                self._members.configure()

        delay = self.world.parameters.delay
        for _ in range(self.rng.randint(0, 2)):
            self.later(self.rng.randint(0, delay), lambda: read(host))
        self.later(self.rng.randint(0, 4 * delay), propose)

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
        self.active = False
        self.world.jobs_may_finish = True
        self.world.network.perfect()
        for host in list(self.world.hosts.values()):
            host.disk.crash_in = host.disk.fail_in = host.disk.capacity_bytes = None
            host.sends_left = None
            host.sync_time = min(host.sync_time, 1 * MS)
            if host.paused:
                host.unpause()
            self.world.start(host)

    # -- choices -----------------------------------------------------------------------------------

    def someone(self) -> Host | None:
        up = self.world.up()
        return self.rng.choice(up) if up else None

    def leader_or_someone(self) -> Host | None:
        leaders = self.world.leaders()
        if leaders and self.rng.random() < 0.6:
            return self.rng.choice(leaders)
        return self.someone()

    def seconds(self, mean: float) -> int:
        return int(self.rng.expovariate(1 / mean) * SECOND)

    def later(self, delay: int, action: Callable[[], None]) -> None:
        """An end of a fault, unless the heal phase has already ended it."""
        self.world.after(delay, lambda: action() if self.active else None)

    # -- processes ---------------------------------------------------------------------------------

    def crash(self) -> bool:
        host = self.leader_or_someone()
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

    def crash_in_disk(self) -> bool:
        """The power goes before a chosen step of the disk: a write, a sync, a rename."""
        host = self.leader_or_someone()
        if host is None:
            return False
        host.disk.crash_in = self.rng.choice((0, 1, 2, 3, 5, 8, 13, 30))
        return True

    def crash_in_send(self) -> bool:
        """The power goes with some of the messages of one moment sent."""
        host = self.leader_or_someone()
        if host is None:
            return False
        host.sends_left = self.rng.randrange(8)
        return True

    def pause(self) -> bool:
        """SIGSTOP: what arrives waits, and is all handled at once afterwards."""
        host = self.leader_or_someone()
        if host is None or host.paused:
            return False
        host.pause()
        self.world.note(host.name, "is stopped")
        incarnation = host.incarnation
        self.later(
            self.seconds(2.0),
            lambda: host.unpause() if host.incarnation == incarnation and host.up else None,
        )
        return True

    def slow_disk(self) -> bool:
        host = self.leader_or_someone()
        if host is None:
            return False
        host.sync_time = self.seconds(0.2)
        usual = self.world.parameters.sync_time
        self.later(self.seconds(3.0), lambda: setattr(host, "sync_time", usual))
        return True

    def clock_jump(self) -> bool:
        """Somebody sets the wall clock; nothing may depend on it."""
        host = self.someone()
        if host is None:
            return False
        host.clock.wall_jump_s += self.rng.choice((-86_400.0, -1.0, 3.0, 86_400.0))
        return True

    # -- network -----------------------------------------------------------------------------------

    def _cut(self, ways: list[Way], seconds: float) -> bool:
        if not ways:
            return False
        self.world.note("network", f"cut: {sorted(ways)}")
        self.world.network.cut(ways)
        self.later(self.seconds(seconds), lambda: self.world.network.mend(ways))
        return True

    def _split(self) -> tuple[list[str], list[str]]:
        names = [host.name for host in self.world.hosts.values() if not host.gone]
        self.rng.shuffle(names)
        split = self.rng.randint(0, len(names))
        return names[:split], names[split:]

    def partition(self) -> bool:
        left, right = self._split()
        pairs = [(a, b) for a in left for b in right]
        return self._cut(pairs + [(b, a) for a, b in pairs], 3.0)

    def one_way(self) -> bool:
        """Some hear nothing from the others, though the others hear them."""
        left, right = self._split()
        return self._cut([(a, b) for a in left for b in right], 3.0)

    def isolate_leader(self) -> bool:
        leaders = self.world.leaders()
        if not leaders:
            return False
        leader = self.rng.choice(leaders)
        # What it appends now must give way later to what the others agree on.
        self.later(MS, lambda: junk(leader, self.rng.randint(0, self.world.parameters.junk)))
        others = [o.name for o in self.world.hosts.values() if o is not leader and not o.gone]
        keep = self.rng.choice(others) if others and self.rng.random() < 0.4 else None
        cut = [other for other in others if other != keep]
        name = leader.name
        self._ask_cut_off(leader)
        done = self._cut([(name, o) for o in cut] + [(o, name) for o in cut], 3.0)
        if self.rng.random() < 0.5:  # the others notice at once, and elect while it still leads
            for other in cut:
                network = self.world.hosts[other].network
                if self.world.hosts[other].up and network is not None:
                    network.break_link(name)
        return done

    def _ask_cut_off(self, leader: Host) -> None:
        """A client that only reaches the old leader reads there while the others go on."""
        for _ in range(self.rng.randint(0, 8)):
            self.later(self.seconds(0.3), lambda: read(leader))

    def clog(self) -> bool:
        """Swizzle-clogging (FoundationDB): links stand still, and let go in any order."""
        names = list(self.world.hosts)
        for _ in range(self.rng.randint(1, 2 * len(names))):
            way = (self.rng.choice(names), self.rng.choice(names))
            self.world.network.clog(way, self.world.now + self.seconds(2.0))
        return True

    def storm(self) -> bool:
        rng = self.rng
        self.world.network.storm(rng.random() * 0.6, rng.random() * 0.5, rng.random() * 0.3)
        self.later(self.seconds(3.0), self.world.network.calm)
        return True

    def drop_connection(self) -> bool:
        """A connection breaks: whoever hears of it may stand for election at once."""
        host = self.someone()
        if host is None or host.network is None or not host.network.links:
            return False
        leader = host.view.leader if host.view is not None else None
        peers = sorted(host.network.links)
        likely = leader in peers and self.rng.random() < 0.5
        return host.network.break_link(leader if likely and leader else self.rng.choice(peers))

    # -- requests ----------------------------------------------------------------------------------

    def campaign(self) -> bool:
        host = self.someone()
        if host is None or host.core is None or host.peer is None:
            return False
        core, peer = host.core, host.peer

        def stand() -> None:
            core.campaign()
            peer.advance()

        host.call(stand)
        return True

    def transfer(self) -> bool:
        host = self.leader_or_someone()
        to = self.someone()
        if host is None or to is None:
            return False
        ask(host, "transfer", peer=to.name)
        return True
