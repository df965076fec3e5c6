from zlib import crc32

from consensus.changes import ConfState, SnapshotMeta
from consensus.messages import Entry
from p2p.replicated.wire import to_chunks
from tools.sim.checks.base import Check
from tools.sim.host import Host

SAMPLE = 16


class StateMachineSafety(Check):
    """Every peer applies 1, 2, 3, … without a gap, the same entries, with the same effect."""

    name = "5 state-machine safety"

    def on_snapshot(self, host: Host, meta: SnapshotMeta) -> None:
        """It holds what is committed, with the configuration that is in force there."""
        if meta.index > self.oracle.last_committed:
            raise self.fail(f"{host.name} starts from index {meta.index}, which nobody committed.")
        if meta.term != self.oracle.committed[meta.index].term:
            raise self.fail(
                f"{host.name} starts from index {meta.index} of term {meta.term}, but the entry "
                f"there is of term {self.oracle.committed[meta.index].term}."
            )
        before = [index for index in self.oracle.configurations if index <= meta.index]
        if meta.index and meta.conf != self.oracle.configurations[max(before)]:
            raise self.fail(
                f"{host.name} starts from index {meta.index} with the configuration {meta.conf}, "
                f"but {self.oracle.configurations[max(before)]} is in force there."
            )

    def on_installed(self, host: Host, meta: SnapshotMeta, conf: ConfState) -> None:
        if conf != meta.conf:
            raise self.fail(
                f"{host.name} has {conf} in force after the snapshot at {meta.index}, which was "
                f"taken under {meta.conf}."
            )

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
        mine = 0
        for chunk in to_chunks(host.state()):
            mine = crc32(chunk, mine)
        first, who = self.oracle.states.setdefault(host.applied, (mine, host.name))
        if mine != first:
            raise self.fail(f"{host.name} and {who} differ in the state after {host.applied}.")
