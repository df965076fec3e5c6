from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.host import Host, View


class LeaderAppendOnly(Check):
    """A leader never rewrites its own log, and nobody holds more of its term than it does."""

    name = "2 leader append-only"

    def on_ready(self, host: Host, ready: Ready) -> None:
        if not ready.entries:
            return
        view = host.view
        assert view is not None
        first = ready.entries[0].index
        if view.role == "leader" and host.log.last >= first and (host.log.terms[-1] == view.term):
            raise self.fail(
                f"{host.name} leads term {view.term} and rewrites its log from index {first}, "
                f"though it reached {host.log.last}."
            )

    def on_logged(self, host: Host, ready: Ready) -> None:
        for entry in ready.entries:
            name = self.oracle.leaders.get(entry.term)
            leader = self.hosts.get(name) if name else None
            if leader is None or leader is host or leader.view is None:
                continue
            view: View = leader.view
            if view.role == "leader" and view.term == entry.term and view.last_index < entry.index:
                raise self.fail(
                    f"{host.name} holds index {entry.index} of term {entry.term}, but {name}, "
                    f"who leads that term, ends at {view.last_index}."
                )
