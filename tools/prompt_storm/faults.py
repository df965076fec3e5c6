"""What happens to peers that serve, to their replicas and to clients.

The seed decides which faults come, and of whom; time does not.
"""

import signal
import time
from dataclasses import dataclass
from typing import ClassVar

from p2p.scenarios.trainer_processes import send, trainers_of
from tools.chaos.crew import Crew, Member
from tools.chaos.storm import Storm
from tools.prompt_storm.crowd import Crowd

GAP_S = (2.0, 6.0)  # between two faults
PEERS_LEFT = 3  # of five
OF_PEERS = frozenset({"kill", "pause", "drain"})
OF_REPLICAS = frozenset({"kill replica", "pause replica"})


@dataclass(frozen=True, slots=True)
class Death:
    """At `at_s` ended, or was stopped, the process that `kind` says, of this peer."""

    at_s: float
    kind: str
    peer: str
    address: str


class ServingStorm(Storm):
    weights: ClassVar = {
        "kill replica": 5,
        "kill": 4,
        "kill leader": 2,
        "kill clients": 2,
        "pause": 2,
        "pause replica": 2,
        "partition": 2,
        "drain": 1,
        "transfer": 1,
    }

    gap_s = GAP_S

    def __init__(self, crew: Crew, seed: int, kinds: frozenset[str], crowd: Crowd) -> None:
        super().__init__(crew, seed, kinds)
        self._crowd = crowd
        self.deaths: list[Death] = []

    def happens(self, kind: str, member: Member, up: list[Member], lasts_s: float) -> bool:
        if kind == "kill leader":
            kind, member = "kill", self._leader(up) or member
            self.crew.diary.note(f"the leader is {member.name}")
        if kind in OF_PEERS and not self._may_go(member, up):
            return False
        if kind in OF_REPLICAS:
            return self._hurt_replica(kind, member, up, lasts_s)
        if kind == "kill clients":
            self.crew.diary.note(f"{self._crowd.kill_one(self.rng)} vanish")
            return True
        if kind == "kill":
            self._note(kind, member)
        return super().happens(kind, member, up, lasts_s)

    def _may_go(self, member: Member, up: list[Member]) -> bool:
        """A majority stays: who was started again counts once it is in, however slow the machine
        is. Without one nothing can be answered, which is no news.
        """
        return member.is_in and sum(one.is_in for one in up) > PEERS_LEFT

    def _hurt_replica(self, kind: str, member: Member, up: list[Member], lasts_s: float) -> bool:
        """Of this peer, or of the next that has one."""
        first = up.index(member)
        for one in up[first:] + up[:first]:
            for pid in trainers_of(one.peer.process.pid)[:1]:
                self.crew.diary.note(f"the replica of {one.name}, process {pid}")
                if kind == "pause replica":
                    send(pid, signal.SIGSTOP)
                    self.later(lasts_s, lambda pid=pid: send(pid, signal.SIGCONT))  # type: ignore[misc]
                else:
                    self._note(kind, one)
                    send(pid, signal.SIGKILL)
                return True
        return False

    def _leader(self, up: list[Member]) -> Member | None:
        told = self.crew.ask("status")
        leader = told["cluster"]["leader"] if told else None
        return next((member for member in up if member.peer.id == leader), None)

    def _note(self, kind: str, member: Member) -> None:
        self.deaths.append(Death(time.monotonic(), kind, member.peer.id, member.peer.address))
