from consensus.changes import ConfState
from consensus.messages import EntryType
from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.host import Host


class Membership(Check):
    """One change at a time, none before the leader committed in its own term, none led by a leaver.

    The second is the fix of the 2015 single-server bug (Ongaro, raft-dev 2015-07-10).
    """

    name = "15 membership"

    def on_logged(self, host: Host, ready: Ready) -> None:
        view = host.view
        assert view is not None
        if view.role != "leader":
            return
        new = [e.index for e in ready.entries if e.type is EntryType.CONF_CHANGE]
        if not new or host.log.terms[new[-1]] != view.term:
            return
        open_changes = [index for index in host.log.changes if index > host.applied]
        if len(open_changes) > 1:
            raise self.fail(
                f"{host.name} appends membership change {open_changes[1]}, though the one at "
                f"{open_changes[0]} is not applied yet."
            )
        if host.log.terms[view.commit] != view.term:
            raise self.fail(
                f"{host.name} appends membership change {new[-1]} before it committed anything in "
                f"term {view.term}."
            )

    def on_configuration(self, host: Host, index: int, conf: ConfState) -> None:
        voters = (*conf.voters, *conf.voters_outgoing)
        if host.look().role == "leader" and host.name not in voters:
            raise self.fail(
                f"{host.name} still leads after the change at {index} made it no voter."
            )
