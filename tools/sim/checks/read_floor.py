from collections.abc import Mapping

from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.host import Host
from tools.sim.oracle import Oracle


class ReadFloor(Check):
    """A confirmed read sees at least what anybody knew to be committed when it was asked."""

    name = "17 client level"

    def __init__(self, oracle: Oracle, hosts: Mapping[str, Host]) -> None:
        super().__init__(oracle, hosts)
        self._floors: dict[tuple[str, int, bytes], int] = {}

    def on_ask_read(self, host: Host, context: bytes) -> None:
        self._floors[host.name, host.incarnation, context] = self.oracle.last_committed

    def on_ready(self, host: Host, ready: Ready) -> None:
        for state in ready.read_states:
            floor = self._floors.pop((host.name, host.incarnation, state.context), 0)
            if state.index < floor:
                raise self.fail(
                    f"{host.name} may read at {state.index}, though {floor} was committed before "
                    f"it asked."
                )
