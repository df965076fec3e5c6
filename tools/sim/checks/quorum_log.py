from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.checks.commit_rule import holds
from tools.sim.host import Host


class QuorumLog(Check):
    """Every quorum that could still meet has a member with all that is committed on its disk."""

    name = "14 quorum log"

    def on_logged(self, host: Host, ready: Ready) -> None:
        view = host.view
        assert view is not None
        if not ready.committed or not host.is_leader:
            return
        index, chain = view.commit, host.log.chain[view.commit]
        halves = host.halves()
        without = [
            [v for v in half if not self.hosts[v].gone and not holds(self.hosts[v], index, chain)]
            for half in halves
        ]
        if all(2 * len(few) > len(half) for few, half in zip(without, halves, strict=True)):
            raise self.fail(
                f"{host.name} knows {index} to be committed, but "
                f"{sorted(set().union(*without))} could elect a leader without it."
            )
