"""The processes of the clients: started, killed, replaced, and what they wrote down."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from p2p.local_cluster import LocalCluster
from tools.prompt_storm.questions import Question

FINISH_S = 240.0  # longer than an answer may take


class Crowd:
    """`vanished`: the names of processes that were killed."""

    def __init__(
        self,
        cluster: LocalCluster,
        questions: Sequence[Question],
        clients: int,
        processes: int,
        seed: int,
    ) -> None:
        self._cluster, self._seed = cluster, seed
        self._each = -(-clients // processes)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.folder = cluster.folder / "clients"
        self.folder.mkdir()
        self.vanished: dict[str, float] = {}  # when
        setup = {
            "addresses": [peer.address for peer in cluster.peers],
            "token_file": str(cluster.peers[0].told["token_file"]),
            "questions": [asdict(question) for question in questions],
        }
        (self.folder / "setup.json").write_text(json.dumps(setup))
        for _ in range(processes):
            self._start()

    def kill_one(self, rng: Random) -> str:
        """One process vanishes with all its clients, and others come. Its name."""
        name = rng.choice(sorted(self._processes))
        process = self._processes.pop(name)
        process.kill()
        process.wait()
        self.vanished[name] = time.monotonic()
        self._start()
        return name

    def finish(self, problems: list[str]) -> None:
        """Nobody asks any more; all that was asked is answered, or it is a problem."""
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
        deadline_s = time.monotonic() + FINISH_S
        for name, process in self._processes.items():
            try:
                code = process.wait(max(0.0, deadline_s - time.monotonic()))
                if code:
                    said = self._log(name).read_text().strip().splitlines()[-1:]
                    problems.append(f"clients {name} ended with {code}: {' '.join(said)}")
            except subprocess.TimeoutExpired:
                problems.append(f"clients {name} still wait after {FINISH_S:g} s")
        self.kill()

    def kill(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        self._processes.clear()

    def records(self) -> list[dict[str, Any]]:
        """All that was written down, with `by`: the process. A torn last line is of one killed."""
        found = []
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    found.append({**json.loads(line), "by": path.stem})
        return found

    def lines(self) -> int:
        """Written down so far."""
        return sum(path.read_bytes().count(b"\n") for path in self.folder.glob("*.jsonl"))

    def _start(self) -> None:
        name = f"crowd-{len(self._processes) + len(self.vanished) + 1}"
        arguments = [str(self.folder), name, str(self._seed), str(self._each)]
        with self._log(name).open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tools.prompt_storm.clients", *arguments],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._cluster.environment,
            )

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"
