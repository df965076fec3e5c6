from collections.abc import Mapping

from consensus.messages import Message, MessageType
from tools.sim.checks.base import Check
from tools.sim.host import Host, View
from tools.sim.oracle import Oracle


class ElectionSafety(Check):
    """One leader a term, ever (two need not lead at the same moment), by votes of that term."""

    name = "1 election safety"

    def __init__(self, oracle: Oracle, hosts: Mapping[str, Host]) -> None:
        super().__init__(oracle, hosts)
        self._votes: dict[tuple[int, str], set[str]] = {}  # by term and candidate

    def on_send(self, host: Host, message: Message) -> None:
        if message.type is MessageType.VOTE_RESP and not message.reject:
            self._votes.setdefault((message.term, message.to), set()).add(host.name)

    def on_observe(self, host: Host, view: View, before: View) -> None:
        if view.role != "leader":
            return
        first = self.oracle.leaders.setdefault(view.term, host.name)
        if first != host.name:
            raise self.fail(f"{host.name} leads term {view.term}, which {first} has led already.")
        if before.role == "leader" and before.term == view.term:
            return
        votes = self._votes.get((view.term, host.name), set()) | {host.name}
        for voters in host.halves():
            if 2 * len(voters & votes) <= len(voters):
                raise self.fail(
                    f"{host.name} leads term {view.term} by the votes of {sorted(votes)}, no "
                    f"majority of {sorted(voters)}."
                )
