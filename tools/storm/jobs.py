"""The jobs that run in the storm: one after the other, so that it never lacks what to disturb."""

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2p.local_cluster import LocalCluster
from p2p.replicated.job_states import FINAL
from tools.chaos.crew import Crew

Told = dict[str, Any]

BATCHNORM = Path(__file__).with_name("batchnorm.py")
# By name, what is submitted; each has an undisturbed run to compare with.
SPECS: dict[str, Told] = {
    "digits": {"task": "digits", "steps": 1440, "seed": 3},
    "batchnorm": {
        "task": f"{BATCHNORM.name}:BatchNorm",
        "task_source": BATCHNORM.read_bytes(),
        "steps": 1080,
        "seed": 5,
    },
}


def kind_of(job: Told) -> str:
    """A job's name says what it is, also when the answer to its submission was lost."""
    return str(job["name"]).partition("-")[0]


@dataclass
class Jobs:
    """`ended`: the last answer of each that is final, by id."""

    crew: Crew
    at_once: int = 1
    ended: dict[str, Told] = field(default_factory=dict)
    seen: dict[str, Told] = field(default_factory=dict)  # the newest summary of each, by id
    events: list[str] = field(default_factory=list)  # as the cluster remembers them at the end
    _number: int = 0

    def look(self, submits: bool = True) -> bool:
        """Take in how they are, resume who waits for a disk, submit the next. True: none is left
        that runs."""
        told = self.crew.ask("status")
        if told is None:
            return False
        self.seen = {job["id"]: job for job in told["jobs"]}
        going = [job for job in self.seen.values() if job["state"] not in FINAL]
        for job in going:
            if job["state"] == "paused":
                self.crew.diary.note(f"{job['id']} is resumed: {job['reason']}")
                self.crew.ask("resume", job=job["id"])
        if submits and len(going) < self.at_once:
            name = list(SPECS)[self._number % len(SPECS)]
            self._number += 1
            spec = {**SPECS[name], "name": f"{name}-{self._number}"}
            answer = self.crew.ask("submit", **spec)
            self.crew.diary.note(f"submitted {spec['name']}: {answer}")
        return not going

    def finish(self, within_s: float) -> None:
        """Let those that run come to their end; a problem if one does not."""
        deadline_s = time.monotonic() + within_s
        while not self.look(submits=False) and time.monotonic() < deadline_s:
            self.crew.watch()
            time.sleep(0.5)
        for id_, job in self.seen.items():
            if job["state"] not in FINAL:
                where = f"{job['state']} at step {job['step']} ({job['reason']})"
                self.crew.problems.append(f"{id_} does not end: {where}")
            told = self.crew.ask("job", job=id_)
            if told is None:
                self.crew.problems.append(f"nobody says how {id_} ended")
            else:
                self.ended[id_] = told
        if not self.ended:
            self.crew.problems.append("there was no job, so nothing was compared")
        events = (self.crew.ask("events") or {"events": []})["events"]
        self.events = [f"{each['at']} {each['kind']} {each['text']}" for each in events]

    @property
    def unwritten(self) -> int:
        return sum(" checkpoint-failed " in each for each in self.events)

    def shown(self, cluster: LocalCluster) -> str:
        """What `p2pnode job` prints of the one with the most generations."""
        if not self.ended:
            return "no job"
        stormiest = max(self.ended.values(), key=lambda job: len(job["generations"]))
        command = ["job", stormiest["id"], "--peer", ",".join(self.crew.addresses)]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "p2p.cli", *command],
            env=cluster.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return f"$ p2pnode {' '.join(command[:2])}\n{done.stdout or done.stderr}"

    def in_words(self) -> str:
        return ", ".join(
            f"{job['id']} {job['state']} {job['step']}/{job['steps_total'] or '?'} "
            f"gen {job['generation']}"
            for job in self.seen.values()
            if job["state"] not in FINAL
        )
