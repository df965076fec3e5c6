"""Fault drills between peers: which message is lost or late, decided before it is sent and as it
arrives. Pure: time and randomness come in.

A drill is in force at the peers it names, in both directions, so nobody else need take part. What
clients ask, and what is forwarded and answered for them, always passes: a drill can be ended from
anywhere. Trainers exchange gradients on sockets of their own, which drills leave alone.
"""

from dataclasses import dataclass
from random import Random
from typing import Literal

DrillKind = Literal["partition", "delay", "drop"]
DRILL_KINDS: tuple[DrillKind, ...] = ("partition", "delay", "drop")
FAULT_KINDS = ("kill", "pause", "crash-trainer", "corrupt", *DRILL_KINDS, "heal")
DELAY_S = 0.2  # on average, evenly spread from 0 to twice that, so that messages overtake others
DROP_SHARE = 0.3
ALWAYS_PASS = frozenset({"request", "reply"})


@dataclass(frozen=True, slots=True)
class Drill:
    """`peers` are on one side of a partition, all others on the other; else whose messages suffer.

    `until_s` is on the peer's monotonic clock; None: until it is healed.
    """

    kind: DrillKind
    peers: frozenset[str]
    until_s: float | None = None

    def concerns(self, sender: str, receiver: str) -> bool:
        if self.kind == "partition":
            return (sender in self.peers) != (receiver in self.peers)
        return sender in self.peers or receiver in self.peers


@dataclass(frozen=True, slots=True)
class Drills:
    """The drills in force at one peer."""

    running: tuple[Drill, ...] = ()

    def and_also(self, drill: Drill) -> "Drills":
        return Drills((*self.running, drill))

    def at(self, now_s: float) -> "Drills":
        """Without those that are over."""
        if not self.running:
            return self
        return Drills(
            tuple(drill for drill in self.running if drill.until_s is None or drill.until_s > now_s)
        )

    @property
    def cuts_off(self) -> bool:
        """Whether a partition is in force."""
        return any(drill.kind == "partition" for drill in self.running)

    def delay_s(self, sender: str, receiver: str, kind: str, rng: Random) -> float | None:
        """How much later this message goes on: 0.0 = at once, None = never."""
        late_s = 0.0
        if kind in ALWAYS_PASS:
            return late_s
        for drill in self.running:
            if not drill.concerns(sender, receiver):
                continue
            if drill.kind == "partition" or (drill.kind == "drop" and rng.random() < DROP_SHARE):
                return None
            if drill.kind == "delay":
                late_s += rng.uniform(0.0, 2 * DELAY_S)
        return late_s
