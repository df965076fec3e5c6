"""What happens to peers that train, beside what tools.chaos does to them: to trainers and to disks.

The seed decides which faults come, and of whom; time does not.
"""

import signal
from typing import ClassVar

from p2p.scenarios.trainer_processes import SlowDown, send, trainers_of
from tools.chaos.crew import Crew, Member
from tools.chaos.storm import Storm
from tools.storm.disks import Disks

GAP_S = (1.0, 8.0)  # between two faults: a trainer needs seconds to be there again
SLOW_RUNS = 1 / 3  # of the time
HANG_S = 3.0  # times as long as other faults last: some hang longer than they may, some shorter
PEERS_LEFT = 3
OF_TRAINERS = frozenset({"crash", "kill trainer", "slow", "hang"})


class TrainingStorm(Storm):
    weights: ClassVar = {
        "kill": 5,
        "crash": 4,
        "kill trainer": 4,
        "pause": 3,
        "partition": 3,
        "transfer": 3,
        "slow": 3,
        "full disk": 2,
        "drain": 2,
        "add": 2,
        "hang": 1,
        "remove": 1,
        "kill all": 1,
    }

    gap_s = GAP_S

    def __init__(self, crew: Crew, seed: int, kinds: frozenset[str], disks: Disks) -> None:
        super().__init__(crew, seed, kinds)
        self._disks = disks
        for member in crew.members:
            disks.prepare(member)

    def happens(self, kind: str, member: Member, up: list[Member], lasts_s: float) -> bool:
        if kind in OF_TRAINERS:
            return self._hurt(kind, member, up, lasts_s)
        if kind == "full disk":
            if not self._disks.fill(member):
                return False
            self.later(lasts_s, lambda: self._disks.free(member))
            return True
        if kind in ("drain", "kill") and len(up) < PEERS_LEFT:
            return False
        done = super().happens(kind, member, up, lasts_s)
        for newest in self.crew.members[-1:] if kind == "add" and done else []:
            self._disks.prepare(newest)  # its process takes longer to start
        return done

    def calm(self) -> None:
        for member in self.crew.members:
            self._disks.free(member)
        super().calm()

    def _hurt(self, kind: str, member: Member, up: list[Member], lasts_s: float) -> bool:
        """Of this peer, or of the next that has a trainer."""
        first = up.index(member)
        for one in up[first:] + up[:first]:
            for pid in trainers_of(one.peer.process.pid)[:1]:
                if one is not member:
                    self.crew.diary.note(f"of {one.name}, as {member.name} has no trainer")
                return self._hurt_trainer(kind, one, pid, lasts_s)
        return False

    def _hurt_trainer(self, kind: str, member: Member, pid: int, lasts_s: float) -> bool:
        if kind == "crash":
            told = self.crew.ask("fault", at=member, kind="crash-trainer", peer=member.peer.id)
            return told is not None
        if kind == "kill trainer":
            send(pid, signal.SIGKILL)
        elif kind == "hang":
            send(pid, signal.SIGSTOP)
            self.later(HANG_S * lasts_s, lambda: send(pid, signal.SIGCONT))
        else:
            SlowDown(pid, SLOW_RUNS).for_a_while(lasts_s)
        return True
