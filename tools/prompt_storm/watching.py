"""How much memory the peers take meanwhile; a thread."""

import contextlib
import threading

import psutil

from p2p.scenarios.trainer_processes import trainers_of
from tools.chaos.crew import Crew, Member

EVERY_S = 0.5
MB = 1e6


class Memory:
    """A context manager. The most that any one process had, in MB of resident memory."""

    def __init__(self, crew: Crew) -> None:
        self.peers_mb: dict[str, float] = {}
        self.replicas_mb: dict[str, float] = {}
        self._crew = crew
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    @staticmethod
    def now_mb(member: Member) -> float:
        found: dict[str, float] = {}
        _note(found, member.name, member.peer.process.pid)
        return found.get(member.name, 0.0)

    def _run(self) -> None:
        while not self._ending.wait(EVERY_S):
            for member in self._crew.of("up", "paused"):
                pid = member.peer.process.pid
                _note(self.peers_mb, member.name, pid)
                for replica in trainers_of(pid):
                    _note(self.replicas_mb, member.name, replica)


def _note(most_mb: dict[str, float], name: str, pid: int) -> None:
    with contextlib.suppress(psutil.Error):
        now_mb = psutil.Process(pid).memory_info().rss / MB
        most_mb[name] = max(most_mb.get(name, 0.0), round(now_mb, 1))
