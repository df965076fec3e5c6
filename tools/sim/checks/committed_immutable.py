from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.host import Host
from tools.sim.oracle import Committed


class CommittedImmutable(Check):
    """The first report of a commit fixes that index for all peers and all time."""

    name = "6 committed immutable"

    def on_logged(self, host: Host, ready: Ready) -> None:
        view = host.view
        assert view is not None
        log, known = host.log, self.oracle.committed
        if view.commit > log.last:
            raise self.fail(
                f"{host.name} says {view.commit} is committed, but its log ends at {log.last}."
            )
        for index in range(len(known), view.commit + 1):
            known.append(Committed(log.terms[index], log.chain[index], view.term))
        if known[view.commit].chain != log.chain[view.commit]:
            raise self.fail(
                f"{host.name} commits another log up to index {view.commit} than was committed "
                f"in term {known[view.commit].in_term}."
            )
