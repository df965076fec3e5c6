from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.host import Host, View


class Ordering(Check):
    """applied <= commit <= last index; terms in a log never fall, nor exceed the node's own."""

    name = "8 ordering"

    def on_observe(self, host: Host, view: View, before: View) -> None:
        if not view.applied <= view.commit <= view.last_index:
            raise self.fail(
                f"{host.name} has applied {view.applied}, commit {view.commit} and last index "
                f"{view.last_index}, which are out of order."
            )
        if view.role == "leader" and view.vote != host.name:
            raise self.fail(f"{host.name} leads term {view.term} but voted for {view.vote}.")
        if view.role == "leader" and before.role != "leader" and host.last_term() != view.term:
            raise self.fail(
                f"{host.name} leads term {view.term} with a log that ends in term "
                f"{host.last_term()}: there is nothing of its own that it could commit."
            )

    def on_ready(self, host: Host, ready: Ready) -> None:
        if not ready.entries:
            return
        view = host.view
        assert view is not None
        first = ready.entries[0].index
        if first > host.log.last + 1:
            raise self.fail(
                f"{host.name} appends index {first} to a log that ends at {host.log.last}."
            )
        term = host.log.terms[first - 1]
        for index, entry in enumerate(ready.entries, first):
            if entry.index != index or not term <= entry.term <= view.term:
                raise self.fail(
                    f"{host.name}, in term {view.term}, stores entry {entry.index} of term "
                    f"{entry.term} at index {index} after one of term {term}."
                )
            term = entry.term
