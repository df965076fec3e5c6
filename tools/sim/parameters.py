"""What one seed draws before the run starts: cluster, timing, and how bad the world is."""

import random
from dataclasses import dataclass, fields

from p2p.storage.snapshots import SnapshotPolicy

MS = 1_000  # simulated time is counted in integer microseconds
SECOND = 1_000_000

FAULTS = (
    *("crash", "crash_many", "crash_in_disk", "crash_in_send", "pause", "slow_disk"),
    *("partition", "one_way", "isolate_leader", "storm", "clog", "drop_connection"),
    *("campaign", "transfer", "configure", "clock_jump", "disk_full", "disk_error"),
    *("join", "leave", "remove", "wipe", "rot", "astray", "move"),
)

# From never in a short run to after every entry, with nothing left of the log behind it.
POLICIES = (
    SnapshotPolicy(),
    SnapshotPolicy(every_entries=50, keep_entries=10, slice_chunks=1),
    SnapshotPolicy(every_entries=10, keep_entries=3, slice_chunks=1, pause_s=0.05),
    SnapshotPolicy(every_entries=3, keep_entries=0, slice_chunks=2),
    SnapshotPolicy(every_entries=1, keep_entries=0, slice_chunks=1),
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Times in microseconds, rates as probabilities per message or per event."""

    seed: int
    peers: int
    skew: float  # clocks run up to this fraction fast or slow
    election_ticks: int
    heartbeat_ticks: int
    learner_heartbeat_ticks: int
    max_append_bytes: int
    max_inflight: int
    fault_time: int
    fault_every: int
    down_for: int  # mean, after a crash
    clients: int
    keys: int
    think: int  # mean, between two requests of a client
    payload: int
    junk: int  # entries that mean nothing, proposed at once by whoever seems to lead
    delay: int
    fifo: bool  # a link keeps order, as one TCP connection does; late messages still overtake
    loss: float
    duplicate: float
    late: float
    late_by: int
    sync_time: int
    segment_bytes: int
    snapshots: SnapshotPolicy
    hold_when_cut: bool  # a cut link keeps messages for later, as a reconnecting socket does
    faults: tuple[str, ...]
    jobs: int = 0  # slots of every peer; with any, training runs beside it all

    def lines(self) -> list[str]:
        return [f"  {f.name} = {getattr(self, f.name)}" for f in fields(self)]


def draw(seed: int, training: bool = False) -> Parameters:
    """Swarm testing: each run switches some faults off, so that the others get room to do harm.

    With `training` there are jobs in any case.
    """
    rng = random.Random(f"{seed}/parameters")
    election_ticks = rng.choice((4, 6, 6, 10, 20))
    heartbeat_ticks = rng.randint(1, max(1, election_ticks // 4))
    quiet = rng.random() < 0.3
    some = set(rng.sample(FAULTS, rng.choice((2, 4, 6, 10, 15))))
    faults = tuple(name for name in FAULTS if name in some)
    return Parameters(
        seed=seed,
        peers=rng.choice((1, 2, 3, 3, 3, 3, 4, 5, 5, 6)),
        skew=rng.choice((0.0, 0.05, 0.25)),
        election_ticks=election_ticks,
        heartbeat_ticks=heartbeat_ticks,
        learner_heartbeat_ticks=rng.randint(heartbeat_ticks, election_ticks // 2),
        max_append_bytes=rng.choice((1, 100, 400, 4_000, 1_000_000)),
        max_inflight=rng.choice((1, 2, 8, 64)),
        fault_time=rng.randint(8, 20) * SECOND,
        fault_every=int(rng.uniform(0.2, 1.2) * SECOND),
        down_for=int(rng.choice((0.05, 0.5, 2.0)) * SECOND),
        clients=rng.choice((1, 2, 3, 4)),
        keys=rng.choice((1, 2, 3)),
        think=int(rng.choice((0.05, 0.2, 0.5)) * SECOND),
        payload=rng.choice((0, 10, 200)),
        junk=rng.choice((0, 1, 3, 8)),
        delay=rng.choice((1, 5, 30)) * MS,
        fifo=rng.random() < 0.6,
        loss=0.0 if quiet else rng.choice((0.0, 0.01, 0.1, 0.3)),
        duplicate=0.0 if quiet else rng.choice((0.0, 0.02, 0.2, 0.5)),
        late=0.0 if quiet else rng.choice((0.0, 0.01, 0.1)),
        late_by=int(rng.choice((0.3, 3.0, 8.0)) * SECOND),
        sync_time=rng.choice((0, 0, 300, 20 * MS)),
        segment_bytes=rng.choice((500, 4_000, 8 << 20)),
        snapshots=rng.choice(POLICIES),
        hold_when_cut=rng.random() < 0.4,
        faults=faults,
        jobs=rng.choice((1, 1, 2)) if training or rng.random() < 0.1 else 0,
    )
