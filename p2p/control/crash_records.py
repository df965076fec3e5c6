"""How often trainers died on this peer, of which job, and how: what the agent's backoff goes by."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from p2p.agent import Crashes, backoff_s


class CrashRecords:
    """`by_job` is what the agent sees. Ends that were wanted, as a drill or by a stop, are none."""

    def __init__(self) -> None:
        self.by_job: dict[str, Crashes] = {}
        self._trains_s: dict[str, float] = {}  # by child, since when
        self._condemned: dict[str, str] = {}  # by child, why it will end in a moment
        self._drilled: set[str] = set()
        self._last: dict[str, str] = {}  # by job, the last child that crashed

    def trains(self, child: str, now_s: float) -> None:
        self._trains_s.setdefault(child, now_s)

    def condemn(self, child: str, reason: str) -> bool:
        """It ends for that reason; False if that is known already."""
        is_new = child not in self._condemned
        self._condemned.setdefault(child, reason)
        return is_new

    def drill(self, child: str) -> None:
        self._drilled.add(child)

    def ended(self, job: str, child: str, how: str, now_s: float, wanted: bool) -> None:
        """`how` is empty when `explain` will say it."""
        trained_s = now_s - self._trains_s.pop(child, now_s)
        how = self._condemned.pop(child, how)
        if not wanted and child not in self._drilled:
            before = self.by_job.get(job, Crashes(0, now_s))
            self.by_job[job] = before.and_another(now_s, trained_s, how)
            self._last[job] = child
        self._drilled.discard(child)

    def explain(self, child: str, how: str) -> str | None:
        """How the process ended, often a little after its end was noticed. The job it concerns."""
        for job, last in self._last.items():
            if last == child and not self.by_job[job].how:
                self.by_job[job] = replace(self.by_job[job], how=how)
                return job
        return None

    def forget(self, job: str) -> None:
        self.by_job.pop(job, None)
        self._last.pop(job, None)

    def told(self, job: str) -> Mapping[str, Any]:
        """As a report has it."""
        crashes = self.by_job.get(job)
        if crashes is None:
            return {}
        facts = {"count": crashes.count, "again_s": backoff_s(crashes.count)}
        return {"child": self._last[job], "error": crashes.how, **facts}
