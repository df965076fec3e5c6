"""All that the keys can propose, by name; and what a line after `p2pnode submit` means."""

import argparse
import shlex
from collections.abc import Mapping
from typing import NoReturn

from tui import plans_job, plans_peer
from tui.proposal import Made, Plan, Proposal, Refusal, Selection, no_quorum
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
        return Refusal("this screen is read-only: start p2ptui without --read-only to steer")
    if snapshot.status is None or snapshot.link.state != "live":
        return Refusal("not connected: nothing can be asked of the cluster now")
    if stale:
        return Refusal("what is shown is stale: wait for the peer's next answer, or press r")
    return None


def cannot_submit(snapshot: Snapshot, read_only: bool, stale: bool) -> Refusal | None:
    """Why no job may be submitted now."""
    problem = cannot_steer(snapshot, read_only, stale)
    if problem is None and snapshot.status is not None and not snapshot.status.cluster.quorum:
        return no_quorum("no job can be submitted")
    return problem


def submission(line: str, address: str) -> Proposal:
    """The request for what follows `p2pnode submit` on a command line, read by the same parser.

    Raises Usage: a flag, a task file or a data folder that cannot be.
    """
    from p2p.errors import Usage  # argparse and the task list are only needed here
    from p2p.verbs.submit import check_task, job_request

    try:
        words = shlex.split(line)
    except ValueError as error:
        raise Usage(f"the line cannot be read: {error}") from error
    args = _submit_parser().parse_args(words)
    request = job_request(args)
    if address.startswith(("127.", "localhost")):
        check_task(args.task, request.get("data"))
    return Proposal(
        title="Submit a job",
        verb="submit",
        args=request,
        cli=f"p2pnode submit {shlex.join(words)}",
        done=f"{args.name or args.task} was submitted",
        ask=False,
    )


def _submit_parser() -> argparse.ArgumentParser:
    from p2p.errors import Usage
    from p2p.verbs.submit import VERBS

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise Usage(message)

        def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
            raise Usage(message or "give a task and its options")

    parser = Parser(prog="submit", add_help=False)
    VERBS[0].add_arguments(parser)
    return parser
