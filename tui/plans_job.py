"""What the keys that concern jobs would do: pause, cancel, checkpoint, restore, strategy, codec."""

import shlex
from collections.abc import Callable

from tui.proposal import Choice, Menu, Proposal, Refusal, Selection, no_quorum, progress
from tui.snapshot import Job, Snapshot, Status, shown_job


def pause(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    job = _active(status, selection, "paused or resumed")
    if isinstance(job, Refusal):
        return job
    verb, done = ("resume", "goes on") if job.state == "paused" else ("pause", "is pausing")
    return _of(job, verb, f"{verb.capitalize()} {job.name}", f"{job.name} {done}")


def cancel(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    job = _active(status, selection, "cancelled")
    if isinstance(job, Refusal):
        return job
    ends = (f"It ends at {progress(job)} and cannot be resumed.", "Its checkpoints stay.")
    return _of(job, "cancel", f"Cancel {job.name}?", f"{job.name} is being cancelled", ends)


def checkpoint(snapshot: Snapshot, status: Status, selection: Selection) -> Proposal | Refusal:
    job = _active(status, selection, "saved")
    if isinstance(job, Refusal):
        return job
    done = f"{job.name} is being saved, while it goes on"
    return _of(job, "checkpoint", f"Save {job.name}", done)


def _of(job: Job, verb: str, title: str, done: str, lines: tuple[str, ...] = ()) -> Proposal:
    """A request that names the job alone; it is asked about if there are `lines` to say."""
    return Proposal(
        title=title,
        verb=verb,
        args={"job": job.id},
        cli=f"p2pnode {verb} {shlex.quote(job.id)}",
        done=done,
        ask=bool(lines),
        lines=lines,
    )


def restore(snapshot: Snapshot, status: Status, selection: Selection) -> Menu | Refusal:
    job, detail = shown_job(status, selection.job), snapshot.detail
    if job is None:
        return Refusal("there is no job: submit one with S")
    if job.kind == "serve":
        return Refusal(f"{job.name} serves: restore the job that trained it")
    if not status.cluster.quorum:
        return no_quorum("no job can be submitted")
    if detail is None or detail.job != job.id:
        return Refusal(f"the checkpoints of {job.name} are not known yet: look at it in Jobs (5)")
    if not detail.checkpoints:
        return Refusal(f"{job.name} has no checkpoint yet: W writes one")
    choices = []
    for made in reversed(detail.checkpoints):
        proposal = Proposal(
            title=f"Restore {job.name} from step {made.step:,}?",
            verb="restore",
            args={"job": job.id, "step": made.step},
            cli=f"p2pnode restore {shlex.quote(job.id)} --step {made.step}",
            done=f"a new job goes on from step {made.step:,}",
            lines=(
                f"A new job begins at step {made.step:,}, with the same task, data and settings.",
                f"{job.name} stays as it is.",
            ),
        )
        choices.append(Choice(f"step {made.step:,}", made.path, proposal))
    return Menu(f"Restore {job.name} from", tuple(choices))


def strategy(snapshot: Snapshot, status: Status, selection: Selection) -> Menu | Refusal:
    from p2p.training.method import AUTO  # pure, but not needed to open the screen
    from p2p.training.strategies.catalog import STRATEGIES

    known = {entry.name: entry.summary for entry in STRATEGIES.values()}
    known[AUTO] = "chosen by measuring"
    return _method(status, selection, "strategy", known, lambda job, name: (name, job.codec))


def codec(snapshot: Snapshot, status: Status, selection: Selection) -> Menu | Refusal:
    from p2p.training.method import codec_summaries

    known = codec_summaries()
    return _method(status, selection, "codec", known, lambda job, name: (job.strategy, name))


def _method(
    status: Status,
    selection: Selection,
    what: str,
    known: dict[str, str],
    after: Callable[[Job, str], tuple[str, str]],
) -> Menu | Refusal:
    """`after`: the strategy and the codec that the job would have."""
    job = _active(status, selection, "changed")
    if isinstance(job, Refusal):
        return job
    now = job.strategy if what == "strategy" else job.codec
    choices = []
    for name, summary in known.items():
        made: Proposal | Refusal = Proposal(
            title=f"{job.name}: {what} {name}?",
            verb="set",
            args={"job": job.id, "changes": {what: name}},
            cli=f"p2pnode set {shlex.quote(job.id)} {what}={name}",
            done=f"{job.name} goes on with {what} {name} after the step it is at",
            lines=(
                f"{summary[:1].upper()}{summary[1:]}.",
                f"A new generation begins after step {job.step:,}; no sample is lost or repeated.",
            ),
        )
        if name == now:
            made = Refusal(f"{job.name} has {what} {name} already")
        elif (why := _mismatch(*after(job, name))) is not None:
            made = Refusal(why)
        choices.append(Choice(name, summary, made))
    return Menu(f"{what.capitalize()} of {job.name}, now {now or 'unknown'}", tuple(choices))


def _mismatch(strategy: str, codec: str) -> str | None:
    """Why these two do not go together, as far as we know them."""
    from p2p.errors import Usage
    from p2p.training.strategies.catalog import STRATEGIES

    try:
        if strategy in STRATEGIES:
            STRATEGIES[strategy].check_codec(codec)
    except Usage as error:
        return str(error)
    return None


def _active(status: Status, selection: Selection, done: str) -> Job | Refusal:
    """The shown job, if it can be asked for something."""
    job = shown_job(status, selection.job)
    if job is None:
        return Refusal("there is no job: submit one with S")
    if job.is_final:
        return Refusal(f"{job.name} is {job.state}: it cannot be {done}")
    if job.kind == "serve":
        return Refusal(f"{job.name} serves, it does not train: U in Prompt (0) lets it go")
    if not status.cluster.quorum:
        return no_quorum(f"{job.name} cannot be {done}")
    return job
