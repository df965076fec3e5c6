"""All that the keys can propose, by name, and why nothing can be proposed now."""

from collections.abc import Mapping

from tui import plans_job, plans_model, plans_peer
from tui.lines import LINES
from tui.proposal import Made, Plan, Refusal, Selection, no_quorum
from tui.snapshot import Snapshot

PLANS: Mapping[str, Plan] = {
    "add": plans_peer.add,
    "remove": plans_peer.remove,
    "fault": plans_peer.fault,
    "kill": plans_peer.kill,
    "transfer": plans_peer.transfer,
    "note": plans_peer.note,
    "pause": plans_job.pause,
    "cancel": plans_job.cancel,
    "checkpoint": plans_job.checkpoint,
    "restore": plans_job.restore,
    "strategy": plans_job.strategy,
    "codec": plans_job.codec,
    "unserve": plans_model.unserve,
}


def propose(
    action: str,
    snapshot: Snapshot,
    selection: Selection,
    read_only: bool = False,
    stale: bool = False,
) -> Made:
    """The proposal or menu for `action` (a key of PLANS), or why not."""
    problem = cannot_steer(snapshot, read_only, stale)
    if problem is not None or snapshot.status is None:
        return problem or Refusal("not connected: nothing can be asked of the cluster now")
    return PLANS[action](snapshot, snapshot.status, selection)


def cannot_steer(snapshot: Snapshot, read_only: bool, stale: bool) -> Refusal | None:
    """Why nothing at all may be asked of the cluster now."""
    if read_only:
        return Refusal("this screen is read-only: start p2ptui with --read-write to steer")
    if snapshot.status is None or snapshot.link.state != "live":
        return Refusal("not connected: nothing can be asked of the cluster now")
    if stale:
        return Refusal("what is shown is stale: wait for the peer's next answer, or press r")
    return None


def cannot_decide(action: str, snapshot: Snapshot, read_only: bool, stale: bool) -> Refusal | None:
    """Why nothing can be typed for `action` (a key of LINES) now."""
    problem = cannot_steer(snapshot, read_only, stale)
    if problem is None and snapshot.status is not None and not snapshot.status.cluster.quorum:
        return no_quorum(LINES[action].refused)
    return problem
