from tools.sim.checks.base import Check
from tools.sim.host import Host, View


class ElectionSafety(Check):
    """Historic, not a snapshot: two leaders of one term need not lead at the same moment."""

    name = "1 election safety"

    def on_observe(self, host: Host, view: View, before: View) -> None:
        if view.role != "leader":
            return
        first = self.oracle.leaders.setdefault(view.term, host.name)
        if first != host.name:
            raise self.fail(f"{host.name} leads term {view.term}, which {first} has led already.")
