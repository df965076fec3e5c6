"""Disks that run full, fail, rot, or vanish. What loses promises hits a minority only."""

from typing import TYPE_CHECKING

from p2p.storage.disk_memory import SECTOR_BYTES
from p2p.storage.sync_mark import MARK_NAME
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
        """What the log has on disk is not what was written, and the peer comes back with that."""
        host = self._loser()
        if host is None:
            return False
        files = host.disk.durable_view()
        names = [name for name in sorted(files) if name.startswith(("wal-", "snapshot-", "raft"))]
        names = [name for name in names if files[name]]
        if not names:
            return False
        # The mark is not synced: only after a kill is it sure to say what was.
        at_rest = host.up and self.rng.random() < 0.5
        if host.up:
            self.world.crash(host, power_cut=not at_rest)
        segments = [name for name in names if name.startswith("wal-")]
        name = segments[-1] if at_rest and segments else self.rng.choice(names)
        if at_rest:
            self._zero_last_sector(host, name)
        elif size := host.disk.size(name):
            bit = self.rng.randrange(8 * size)
            host.disk.flip_bit(name, bit)
            self.world.note(host.name, f"bit {bit} of {name} flips")
        host.disk.write_back(MARK_NAME)  # or with the power the evidence would go that it is rot
        host.rotten = True
        return True

    def astray(self) -> bool:
        """A write is lost, or lands elsewhere, and the disk says that all is well."""
        host = self._loser()
        if host is None or not host.up:
            return False
        files = host.disk.durable_view()
        names = [name for name in sorted(files) if name.startswith(("wal-", "snapshot"))]
        if not names:
            return False
        segments = [name for name in names if name.startswith("wal-")]
        written = segments[-1] if segments and self.rng.random() < 0.7 else "snapshot.new"
        victim = self.rng.choice([*names, written])
        place = (victim, self.rng.randrange(len(files.get(victim, b"")) + 1))
        crash_after = self.rng.choice((2, 3, 5, 8, 20))
        host.disk.go_astray(written, self.rng.choice((place, None)), crash_after)
        self.world.note(host.name, f"the next write to {written} goes astray")
        host.rotten = True
        return True

    def _zero_last_sector(self, host: Host, name: str) -> None:
        """It looks as if the last write had been cut short; but it had been synced."""
        data = host.disk.read(name) or b""
        end = len(data.rstrip(b"\0"))
        start = (end - 1) // SECTOR_BYTES * SECTOR_BYTES if end else 0
        host.disk.put(name, data[:start] + bytes(end - start) + data[end:])
        self.world.note(host.name, f"{name} reads as zeros from byte {start} on")

    def _loser(self) -> Host | None:
        everybody = [h for h in self.world.hosts.values() if not h.gone and h.incarnation]
        host = self.rng.choice(everybody) if everybody else None
        return host if host is not None and self.world.may_lose([host.name]) else None
