from consensus.messages import EntryType
from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.host import Host


class Membership(Check):
    """A leader has at most one configuration entry under way, and appends it only after a commit of
    its own term (the fix of the 2015 single-server bug)."""

    name = "15 one membership change at a time"

    def on_logged(self, host: Host, ready: Ready) -> None:
        view = host.view
        assert view is not None
        if view.role != "leader":
            return
        changes = [e for e in ready.entries if e.type is EntryType.CONF_CHANGE]
        own = [e for e in changes if e.term == view.term]
        if len(own) > 1:
            raise self.fail(
                f"{host.name} appends membership changes {own[0].index} and {own[1].index} at once."
            )
        if own and not self._committed_own_term(host, view.term, view.commit):
            raise self.fail(
                f"{host.name} appends membership change {own[0].index} before it committed "
                f"anything in term {view.term}."
            )

    @staticmethod
    def _committed_own_term(host: Host, term: int, commit: int) -> bool:
        return host.log.terms[commit] == term
