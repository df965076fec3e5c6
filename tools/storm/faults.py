"""What happens to peers that train, beside what tools.chaos does to them: to trainers and to disks.

The seed decides which faults come, and of whom; time does not.
"""

import os
import signal
import subprocess
from typing import ClassVar

from tools.chaos.crew import Member
from tools.chaos.storm import Storm
from tools.trainer_processes import SlowDown, send, trainers_of

GAP_S = (1.0, 8.0)  # between two faults: a trainer needs seconds to be there again
SLOW_RUNS = 1 / 3  # of the time
HANG_S = 3.0  # times as long as other faults last: some hang longer than they may, some shorter
PEERS_LEFT = 3
DISK_BYTES = 4096  # less than any part of a checkpoint: what fits would go with the file system


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

    def happens(self, kind: str, member: Member, up: list[Member], lasts_s: float) -> bool:
        if kind == "crash":
            told = self.crew.ask("fault", at=member, kind="crash-trainer", peer=member.peer.id)
            return told is not None
        if kind == "full disk":
            return self._fill_disk(member, lasts_s)
        if kind in ("kill trainer", "slow", "hang"):
            pids = trainers_of(member.peer.process.pid)
            if pids:
                self._hurt(kind, pids[0], lasts_s)
            return bool(pids)
        if kind in ("drain", "kill") and len(up) < PEERS_LEFT:
            return False
        return super().happens(kind, member, up, lasts_s)

    def calm(self) -> None:
        for member in self.crew.members:
            free_disk(member)
        super().calm()

    def _hurt(self, kind: str, pid: int, lasts_s: float) -> None:
        if kind == "kill trainer":
            send(pid, signal.SIGKILL)
        elif kind == "hang":
            send(pid, signal.SIGSTOP)
            self.later(HANG_S * lasts_s, lambda: send(pid, signal.SIGCONT))
        else:
            SlowDown(pid, SLOW_RUNS).for_a_while(lasts_s)

    def _fill_disk(self, member: Member, lasts_s: float) -> bool:
        """Where checkpoints go is a file system without room. Only root may do that."""
        folder = member.folder / "checkpoints"
        if os.geteuid() != 0 or os.path.ismount(folder):
            return False
        folder.mkdir(exist_ok=True)
        size = f"size={DISK_BYTES}"
        mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            return False
        self.later(lasts_s, lambda: free_disk(member))
        return True


def free_disk(member: Member) -> None:
    folder = member.folder / "checkpoints"
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
