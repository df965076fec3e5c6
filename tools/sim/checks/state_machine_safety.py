from consensus.changes import ConfState
from consensus.messages import Entry
from tools.sim.checks.base import Check
from tools.sim.host import Host


class StateMachineSafety(Check):
    """Every peer applies 1, 2, 3, … without a gap, the same entries, with the same effect."""

    name = "5 state-machine safety"

    def on_apply(self, host: Host, entry: Entry) -> None:
        if entry.index != host.applied + 1:
            raise self.fail(f"{host.name} applies index {entry.index} right after {host.applied}.")
        if entry.index > self.oracle.last_committed:
            raise self.fail(f"{host.name} applies index {entry.index}, which nobody has committed.")
        log = host.log
        if (
            log.terms[entry.index] != entry.term
            or log.chain[entry.index] != self.oracle.committed[entry.index].chain
        ):
            raise self.fail(
                f"{host.name} applies another entry at index {entry.index} than was committed."
            )

    def on_configuration(self, host: Host, index: int, conf: ConfState) -> None:
        mine = (frozenset(conf.voters), frozenset(conf.learners))
        first = self.oracle.configurations.setdefault(index, mine)
        if mine != first:
            raise self.fail(
                f"{host.name} has voters {sorted(mine[0])} and learners {sorted(mine[1])} at "
                f"index {index}, others have {sorted(first[0])} and {sorted(first[1])}."
            )
