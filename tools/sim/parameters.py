"""What one seed draws before the run starts: cluster, timing, and how bad the world is."""

import random
from dataclasses import dataclass, fields

MS = 1_000  # simulated time is counted in integer microseconds
SECOND = 1_000_000

FAULTS = (
    "crash",
    "crash_many",
    "crash_inside_ready",
    "pause",
    "partition",
    "one_way",
    "isolate_leader",
    "storm",
    "clog",
    "drop_connection",
    "campaign",
    "transfer",
    "membership",
    "slow_disk",
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Times in microseconds, rates as probabilities per message or per event."""

    seed: int
    peers: int
    grown: bool  # start with one founder that adds the others, or with all of them in the log
    tick: int
    skew: float  # clocks run up to this fraction fast or slow
    election_ticks: int
    heartbeat_ticks: int
    max_append_bytes: int
    max_inflight: int
    fault_time: int
    fault_every: int
    down_for: int  # mean, after a crash
    propose_every: int
    burst: int
    payload: int
    delay: int
    fifo: bool  # a link keeps order, as one TCP connection does; late messages still overtake
    loss: float
    duplicate: float
    late: float
    late_by: int
    sync_time: int
    overlap: bool  # the loop takes messages while the disk syncs
    drain_delay: int  # the loop gathers inputs this long before it asks for a Ready
    hold_when_cut: bool  # a cut link keeps messages for later, as a reconnecting socket does
    faults: tuple[str, ...]

    def lines(self) -> list[str]:
        return [f"  {f.name} = {getattr(self, f.name)}" for f in fields(self)]


def draw(seed: int) -> Parameters:
    """Swarm testing: each run switches some faults off, so that the others get room to do harm."""
    rng = random.Random(f"{seed}/parameters")
    election_ticks = rng.randint(4, 10)
    quiet = rng.random() < 0.3
    faults = tuple(name for name in FAULTS if rng.random() < 0.6)
    return Parameters(
        seed=seed,
        peers=rng.choice((1, 2, 3, 3, 3, 4, 5, 5, 5, 6, 7)),
        grown=rng.random() < 0.4,
        tick=rng.choice((50, 50, 100)) * MS,
        skew=rng.choice((0.0, 0.05, 0.25)),
        election_ticks=election_ticks,
        heartbeat_ticks=rng.randint(1, max(1, election_ticks // 3)),
        max_append_bytes=rng.choice((1, 100, 400, 4_000, 1_000_000)),
        max_inflight=rng.choice((1, 2, 8, 64)),
        fault_time=rng.randint(20, 70) * SECOND,
        fault_every=int(rng.uniform(0.4, 4.0) * SECOND),
        down_for=int(rng.choice((0.05, 0.5, 2.0)) * SECOND),
        propose_every=int(rng.choice((0.05, 0.2, 1.0)) * SECOND),
        burst=rng.choice((1, 1, 3, 10)),
        payload=rng.choice((0, 10, 200)),
        delay=rng.choice((1, 5, 30)) * MS,
        fifo=rng.random() < 0.6,
        loss=0.0 if quiet else rng.choice((0.0, 0.01, 0.1, 0.3)),
        duplicate=0.0 if quiet else rng.choice((0.0, 0.02, 0.2, 0.5)),
        late=0.0 if quiet else rng.choice((0.0, 0.01, 0.1)),
        late_by=int(rng.choice((0.3, 3.0, 15.0)) * SECOND),
        sync_time=rng.choice((0, 0, 300, 20 * MS)),
        overlap=rng.random() < 0.5,
        drain_delay=rng.choice((0, 0, 2 * MS)),
        hold_when_cut=rng.random() < 0.4,
        faults=faults or ("crash",),
    )
