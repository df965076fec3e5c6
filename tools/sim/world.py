"""The one clock and queue of a run, the hosts, and everything that passes between them."""

import heapq
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count

from consensus.node import bootstrap
from p2p.storage.data_dir import IDENTITY_NAME, Remembered
from p2p.storage.log_store import LogDamaged, LogStore
from p2p.storage.rejoin import open_log
from tools.sim.checks import Checks
from tools.sim.disk import PowerGone
from tools.sim.host import CLUSTER, Host
from tools.sim.network import Wires
from tools.sim.oracle import Oracle
from tools.sim.parameters import SECOND, Parameters
from tools.sim.ring import Ring
from tools.sim.violation import Violation

Action = Callable[[], None]
PEERS_EVER_MAX = 14


class World:
    def __init__(self, parameters: Parameters, tracing: bool = False) -> None:
        self.parameters = parameters
        self.now = 0
        self.events = 0
        self.counts: Counter[str] = Counter()
        self.trace: list[str] | None = [] if tracing else None
        self.hosts: dict[str, Host] = {}
        self.oracle = Oracle()
        self.checks = Checks(self.oracle, self.hosts)
        self.network = Wires(self)
        self.on_elected: Callable[[Host], None] = lambda host: None
        self.ring = Ring()
        self.jobs_may_finish = False
        self._rng = self.stream("world")
        self._queue: list[tuple[int, int, Action]] = []
        self._order = count()

    def stream(self, purpose: str) -> random.Random:
        """Random numbers of one purpose, so that a change in one place does not move all others."""
        return random.Random(f"{self.parameters.seed}/{purpose}")

    def note(self, host: str, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.now / SECOND:.6f} {host} {text}")

    # -- time --------------------------------------------------------------------------------------

    def after(self, delay: int, action: Action) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._order), action))

    def run_until(self, end: int) -> None:
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now, _, action = heapq.heappop(queue)
            self.events += 1
            action()
        self.now = end

    # -- hosts -------------------------------------------------------------------------------------

    def found(self) -> None:
        """One founder; the others join it, as they would in real life."""
        first = self.add_host()
        hard_state, entries = bootstrap(first.name)
        LogStore(first.disk).save(hard_state, entries, must_sync=True)
        first.durable.found(hard_state, entries)
        self.start(first)
        for _ in range(self.parameters.peers - 1):
            self.start(self.add_host())

    def add_host(self, instead: Host | None = None) -> Host:
        """A new peer with an empty disk; an id is never used twice.

        `instead`: of one that lost its disk, at the same address.
        """
        number = len(self.hosts) + 1
        address = f"10.0.0.{number}:7000" if instead is None else instead.address
        replaces = () if instead is None else (*instead.replaces, instead.name)
        host = Host(f"n{number}", address, self, replaces)
        self.hosts[host.name] = host
        return host

    def start(self, host: Host) -> None:
        """A peer whose log is damaged comes back as a new one, as p2p.storage.rejoin does it."""
        if host.up or host.gone:
            return
        try:
            host.start()
            host.mending = False
        except LogDamaged as error:
            if not (host.rotten or host.mending):
                raise Violation(
                    "16 no amnesia",
                    f"{host.name} is lost though nothing harmed its disk: {error}",
                ) from error
            self.note(host.name, f"cannot start: {error}")
            self.counts["damaged logs refused"] += 1
            self._rejoin(host, str(error))

    def _rejoin(self, host: Host, flaw: str) -> None:
        """Set the log aside and go on under a new id; perhaps the power goes in the middle."""
        fresh, disk = self.add_host(instead=host), host.disk
        fresh.mending = True
        who = Remembered(host.name, host.name, host.address, CLUSTER, host.replaces, ("others:1",))
        disk.crash_in = self._rng.choice((None, None, self._rng.randrange(30)))
        try:
            open_log(disk, who, fresh.name, self.now / SECOND, may_join=True)
        except PowerGone:
            self.counts["power cuts while rejoining"] += 1
            disk.lose_power(self._rng)
        disk.end()
        identity = disk.read(IDENTITY_NAME) or b"{}"
        if json.loads(identity).get("id") != fresh.name:  # the next start finds the damage again
            self.lose(fresh, "it never was")
            self._come_back(host)
            return
        self.lose(host, flaw)
        fresh.adopt(disk)
        self.start(fresh)

    def lose(self, host: Host, why: str) -> None:
        """This id never comes back: its disk is gone, or it was told to go."""
        host.gone = why
        self.note(host.name, f"is gone for good: {why}")

    def crash(self, host: Host, power_cut: bool) -> None:
        if not host.up:
            return
        fate = host.stop(power_cut)
        self.counts["power cuts" if power_cut else "kills"] += 1
        if power_cut and fate != "clean":
            self.counts[f"unsynced writes {fate}"] += 1
        self.note(host.name, f"{'loses power' if power_cut else 'is killed'} ({fate})")
        self._come_back(host)

    def retire(self, host: Host, why: str) -> None:
        """The process ends by itself, and for good."""
        if host.up:
            host.stop(power_cut=False)
            self.counts["peers retired"] += 1
            self.lose(host, why)

    def left(self, host: Host, removed: bool) -> None:
        """The process ends after it drained; it comes back unless it was removed."""
        if removed:
            self.retire(host, "removed")
            return
        host.stop(power_cut=False)
        self.counts["peers left"] += 1
        self.note(host.name, "has left")
        self._come_back(host)

    def _come_back(self, host: Host) -> None:
        down = int(self._rng.expovariate(1 / self.parameters.down_for))
        self.after(down, lambda: self.start(host))

    def up(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.up]

    def leaders(self) -> list[Host]:
        """Whoever believes to lead; during a partition that may be several, in different terms."""
        return [host for host in self.hosts.values() if host.is_leader]

    def may_lose(self, names: Sequence[str]) -> bool:
        """Whether these may vanish for good: whoever still has its disk must hold a majority of
        each configuration that anybody has in force or may have soon, or what was promised could
        be lost with them. Whose disk lies unnoticed may get a vote before it is noticed.
        """
        rotten = [host.name for host in self.hosts.values() if host.rotten and not host.gone]
        for voters in self._halves_in_force():
            soon = voters.union(names, rotten)
            lost = [v for v in soon if v in names or self.hosts[v].is_lost]
            if 2 * len(lost) >= len(soon):
                return False
        return self._is_settled

    def is_sole_voter(self, host: Host) -> bool:
        """In every configuration that anybody has in force or may have soon."""
        halves = self._halves_in_force()
        return self._is_settled and all(voters == {host.name} for voters in halves)

    def _halves_in_force(self) -> list[frozenset[str]]:
        return [half for host in self._deciders() for half in host.known_halves]

    @property
    def _is_settled(self) -> bool:
        """Whether no membership change is on its way to being applied."""
        return not any(
            host.up and host.log.changes and host.log.changes[-1] > host.applied
            for host in self._deciders()
        )

    def _deciders(self) -> list[Host]:
        """Those that may vote; also whoever is being removed, until it is gone."""
        return [host for host in self.hosts.values() if not (host.gone or host.rotten)]
