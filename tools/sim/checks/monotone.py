from collections.abc import Mapping

from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.host import Host, View
from tools.sim.oracle import Oracle


class Monotone(Check):
    """Terms, commits and matches only grow; a vote and a known leader stay for their term."""

    name = "7 monotone"

    def __init__(self, oracle: Oracle, hosts: Mapping[str, Host]) -> None:
        super().__init__(oracle, hosts)
        self._matches: dict[tuple[str, int, int], dict[str, int]] = {}

    def on_observe(self, host: Host, view: View, before: View) -> None:
        for what, new, old in (
            ("term", view.term, before.term),
            ("commit", view.commit, before.commit),
            ("applied index", view.applied, before.applied),
        ):
            if new < old:
                raise self.fail(f"{host.name} lowers its {what} from {old} to {new}.")
        if view.term == before.term and before.vote is not None and view.vote != before.vote:
            raise self.fail(
                f"{host.name} votes for {view.vote} in term {view.term}, after {before.vote}."
            )
        if view.leader is not None:
            first = self.oracle.leaders.get(view.term)
            if view.leader != first:
                raise self.fail(
                    f"{host.name} follows {view.leader} in term {view.term}, which {first} leads."
                )

    def on_start(self, host: Host, view: View) -> None:
        durable = host.durable
        if (view.term, view.vote) != (durable.term, durable.vote):
            raise self.fail(
                f"{host.name} starts with term {view.term} and vote {view.vote}, though its disk "
                f"has {durable.term} and {durable.vote}."
            )
        if view.last_index != durable.log.last or view.commit > durable.log.last:
            raise self.fail(
                f"{host.name} starts with a log to {view.last_index} and commit {view.commit}, "
                f"though the log on its disk ends at {durable.log.last}."
            )

    def on_ready(self, host: Host, ready: Ready) -> None:
        if not host.is_leader:
            return
        assert host.core is not None
        assert host.view is not None
        key = (host.name, host.incarnation, host.view.term)
        matches = self._matches.setdefault(key, {})
        progress = host.progress()
        for peer in [p for p in matches if p not in progress]:
            del matches[peer]  # removed; may be added again with nothing
        for peer, (match, following) in progress.items():
            if match < matches.get(peer, 0):
                raise self.fail(
                    f"{host.name} lowers the match of {peer} from {matches[peer]} to {match} in "
                    f"term {host.view.term}."
                )
            if following <= match:
                raise self.fail(
                    f"{host.name} would send {peer} index {following} next, though it already "
                    f"holds {match}."
                )
            matches[peer] = match
