"""Disks that run full, fail, rot, or vanish. What loses promises hits a minority only."""

from typing import TYPE_CHECKING

from tools.sim.host import Host

if TYPE_CHECKING:
    from tools.sim.faults import Nemesis


class StorageFaults:
    def __init__(self, nemesis: "Nemesis") -> None:
        self.nemesis = nemesis
        self.world = nemesis.world
        self.rng = nemesis.rng

    def disk_full(self) -> bool:
        """Somebody makes room when the peer has ended."""
        host = self.nemesis.leader_or_someone()
        if host is None:
            return False
        used = sum(map(len, host.disk.files.values()))
        host.disk.capacity_bytes = used + self.rng.randint(0, 2_000)
        return True

    def disk_error(self) -> bool:
        host = self.nemesis.leader_or_someone()
        if host is None:
            return False
        host.disk.fail_in = self.rng.choice((0, 1, 2, 5, 10))
        return True

    def wipe(self) -> bool:
        """The disk is replaced: another peer, which may know whom it replaces, or not."""
        host = self._loser()
        if host is None:
            return False
        if host.up:
            host.stop(power_cut=True)
        self.world.lose(host, "its disk is gone")
        fresh = self.world.add_host(instead=host if self.rng.random() < 0.7 else None)
        self.nemesis.later(self.nemesis.seconds(0.5), lambda: self.world.start(fresh))
        return True

    def rot(self) -> bool:
        """A bit flips in what the log has on disk, and the peer comes back with that."""
        host = self._loser()
        if host is None:
            return False
        names = [
            name for name in host.disk.names() if name.startswith(("wal-", "snapshot-", "raft"))
        ]
        files = host.disk.durable_view()
        names = [name for name in names if files.get(name)]
        if not names:
            return False
        if host.up:
            self.world.crash(host, power_cut=self.rng.random() < 0.5)
        name = self.rng.choice(names)
        size = host.disk.size(name)
        if not size:
            return False
        bit = self.rng.randrange(8 * size)
        host.disk.flip_bit(name, bit)
        host.rotten = True
        self.world.note(host.name, f"bit {bit} of {name} flips")
        return True

    def _loser(self) -> Host | None:
        everybody = [h for h in self.world.hosts.values() if not h.gone and h.incarnation]
        host = self.rng.choice(everybody) if everybody else None
        return host if host is not None and self.world.may_lose([host.name]) else None
