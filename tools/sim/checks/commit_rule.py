from tools.sim.checks.base import Check
from tools.sim.host import Host, View


class CommitRule(Check):
    """A leader commits an entry of its own term once a majority of voters has it on disk."""

    name = "9 commit rule"

    def on_observe(self, host: Host, view: View, before: View) -> None:
        if view.role != "leader" or view.commit <= before.commit:
            return
        index = view.commit
        if index > host.log.last or host.log.terms[index] != view.term:
            raise self.fail(
                f"{host.name} leads term {view.term} and commits index {index}, which is not an "
                f"entry of that term."
            )
        chain = host.log.chain[index]
        for voters in host.halves():
            holders = [v for v in voters if holds(self.hosts[v], index, chain)]
            if len(holders) * 2 <= len(voters):
                raise self.fail(
                    f"{host.name} commits index {index}, which is on disk at {sorted(holders)} "
                    f"only, no majority of the voters {sorted(voters)}."
                )


def holds(host: Host, index: int, chain: int) -> bool:
    log = host.durable.log
    return log.last >= index and log.chain[index] == chain
