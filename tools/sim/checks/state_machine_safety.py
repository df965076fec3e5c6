from zlib import crc32

from consensus.changes import ConfState
from consensus.messages import Entry
from tools.sim.checks.base import Check
from tools.sim.host import Host

SAMPLE = 16


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
        first = self.oracle.configurations.setdefault(index, conf)
        if conf != first:
            raise self.fail(
                f"{host.name} has the configuration {conf} at index {index}, others have {first}."
            )

    def on_applied(self, host: Host) -> None:
        """Now and then, because it costs: is the state itself the same?"""
        if host.applied % SAMPLE:
            return
        mine = crc32(repr(host.state()).encode())
        first, who = self.oracle.states.setdefault(host.applied, (mine, host.name))
        if mine != first:
            raise self.fail(f"{host.name} and {who} differ in the state after {host.applied}.")
