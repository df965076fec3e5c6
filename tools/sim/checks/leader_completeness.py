from collections.abc import Mapping

from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.host import Host, View
from tools.sim.oracle import Oracle


class LeaderCompleteness(Check):
    """Who leads a later term holds everything that was committed before it."""

    name = "4 leader completeness"

    def __init__(self, oracle: Oracle, hosts: Mapping[str, Host]) -> None:
        super().__init__(oracle, hosts)
        self._looked_at = 0

    def on_observe(self, host: Host, view: View, before: View) -> None:
        if view.role == "leader" and (before.role != "leader" or before.term != view.term):
            self._holds(host, view, self.oracle.committed_before_term(view.term))

    def on_logged(self, host: Host, ready: Ready) -> None:
        """A commit may become known after somebody else won a later term: look at those, too."""
        if self.oracle.last_committed == self._looked_at:
            return
        self._looked_at = self.oracle.last_committed
        committed = self.oracle.committed[-1].in_term
        for other in self.hosts.values():
            view = other.view
            if view is not None and view.role == "leader" and view.term > committed:
                self._holds(other, view, self.oracle.last_committed)

    def _holds(self, host: Host, view: View, index: int) -> None:
        log = host.log
        if log.last < index or log.chain[index] != self.oracle.committed[index].chain:
            raise self.fail(
                f"{host.name} leads term {view.term} without the log up to index {index}, which "
                f"was committed in term {self.oracle.committed[index].in_term}."
            )
