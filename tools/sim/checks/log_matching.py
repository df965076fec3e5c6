from collections.abc import Mapping

from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.host import Host
from tools.sim.oracle import Oracle


class LogMatching(Check):
    """Same index and term anywhere, ever, means the same log up to there."""

    name = "3 log matching"

    def __init__(self, oracle: Oracle, hosts: Mapping[str, Host]) -> None:
        super().__init__(oracle, hosts)
        self._seen: dict[tuple[int, int], tuple[int, str]] = {}

    def on_logged(self, host: Host, ready: Ready) -> None:
        for entry in ready.entries:
            chain = host.log.chain[entry.index]
            first, who = self._seen.setdefault((entry.index, entry.term), (chain, host.name))
            if first != chain:
                raise self.fail(
                    f"{host.name} and {who} both hold index {entry.index} of term {entry.term}, "
                    f"but their logs up to there differ."
                )
