from collections.abc import Mapping

from p2p.replicated.state import Generation, Job
from tools.sim.checks.base import Check
from tools.sim.host import Host
from tools.sim.oracle import Oracle
from tools.sim.ring import SHARDS
from tools.sim.twins import STEPS


class Generations(Check):
    """The generations of a job are numbered upwards and deal every shard once; a job that is over
    stays over; what is finished has made every step, with an exact ledger.
    """

    name = "19 jobs"

    def __init__(self, oracle: Oracle, hosts: Mapping[str, Host]) -> None:
        super().__init__(oracle, hosts)
        self._seen: dict[tuple[str, int, str], tuple[int, bool]] = {}
        self._checked: dict[str, Job] = {}  # by id, as it was when it was looked at last

    def on_applied(self, host: Host) -> None:
        if host.peer is None or not host.world.parameters.jobs:
            return
        for job in host.peer.state.jobs.values():
            key = host.name, host.incarnation, job.id
            now = (job.generation.number if job.generation else 0), job.is_final
            before = self._seen.setdefault(key, now)
            if now[0] < before[0] or now[1] < before[1]:
                raise self.fail(f"{job.id} goes from {before} back to {now} on {host.name}.")
            self._seen[key] = now
            if self._checked.get(job.id) is not job:
                self._checked[job.id] = job
                self._look(job)

    def _look(self, job: Job) -> None:
        if job.generation is not None:
            self._shards(job, job.generation)
        for row in job.ledger:
            exact = row["samples"] == row["distinct"] and not (row["repeated"] or row["missing"])
            if not exact or job.mark is None or row["samples"] != job.mark.step:
                raise self.fail(f"{job.id} has the ledger {job.ledger} at {job.mark}.")
        if job.state == "finished" and (job.mark is None or job.mark.step != STEPS):
            raise self.fail(f"{job.id} is finished at {job.mark}, not after step {STEPS}.")

    def _shards(self, job: Job, newest: Generation) -> None:
        dealt = [shard for s in newest.seats for shard in range(s.first_shard, s.last_shard)]
        if dealt != list(range(SHARDS)):
            raise self.fail(f"{job.id} deals the shards {dealt} in generation {newest.number}.")
