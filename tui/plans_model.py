"""What the key that concerns served models would do."""

import shlex

from tui.proposal import Proposal, Refusal, Selection, no_quorum
from tui.snapshot import Snapshot, Status
from tui.told import shown_model


def unserve(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    model = shown_model(snapshot.told, selection.model)
    if snapshot.told.models is None:
        return Refusal("which models are served is not known yet: look at them in Prompt (0)")
    if model is None:
        return Refusal("nothing is served: M serves what a job trained")
    if not status.cluster.quorum:
        return no_quorum(f"{model.name} cannot be let go")
    same = [other for other in snapshot.told.models if other.name == model.name]
    count = len(model.replicas)
    ends = "Its replica ends" if count == 1 else f"Its {count} replicas end"
    return Proposal(
        title=f"Serve {model.name} no more?",
        verb="unserve",
        args={"model": model.id},
        cli=f"p2pnode unserve {shlex.quote(model.name if len(same) == 1 else model.id)}",
        done=f"{model.name} is served no more",
        lines=(
            f"{ends}: what has begun is finished, for 30 s at most; what waits gets an error.",
            "The job it came from, and its checkpoints, stay.",
        ),
    )
