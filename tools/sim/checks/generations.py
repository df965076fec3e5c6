from collections.abc import Mapping

from tools.sim.checks.base import Check
from tools.sim.host import Host
from tools.sim.oracle import Oracle


class Generations(Check):
    """The generations of a job are numbered upwards, and a job that is over stays over."""

    name = "19 jobs"

    def __init__(self, oracle: Oracle, hosts: Mapping[str, Host]) -> None:
        super().__init__(oracle, hosts)
        self._seen: dict[tuple[str, int, str], tuple[int, bool]] = {}

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
