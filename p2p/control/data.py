"""Who has other data than the rest, by what its trainer found. Pure."""

from collections.abc import Sequence

from p2p.control.failures import set_aside
from p2p.control.seated import Command, Names, Trainers
from p2p.replicated.state import TEXT_MAX, Job

# So long those that differ wait for one who is not ready yet: it may make a majority.
TOLD_WITHIN_S = 60.0


def unlike(job: Job, names: Names, trainers: Trainers, complete: bool) -> list[Command] | None:
    """None where all trainers' data sets have the same length, also the same as the job so far.

    Else what to do: set aside one of those that are unlike; without a majority, nobody knows whose
    data is right, so the job ends. Nothing as long as not all have told: `complete`. What differs
    within equal lengths is seen where a registered data set is checked, and by the first mark at
    the latest.
    """
    lengths = {
        peer: int(trainer.ready["train_samples"])
        for peer, trainer in sorted(trainers.items())
        if trainer.is_ready and type(trainer.ready.get("train_samples")) is int
    }
    usual = _usual(job, list(lengths.values()), complete)
    odd = next((peer for peer, length in lengths.items() if length != usual), None)
    if odd is None:
        return None
    if usual is not None:
        sentence = f"its data has {lengths[odd]} training samples, that of the others {usual}"
        return [set_aside(job, odd, f"{names[odd]} is set aside: {sentence}")]
    if not complete:
        return []
    told = ", ".join(f"{length} on {names[peer]}" for peer, length in lengths.items())
    reason = f"the peers' data differs: {told} training samples; give all of them the same files, "\
        "or `p2pnode data register` them"  # fmt: skip
    return [{"type": "job.fail", "job": job.id, "reason": reason[:TEXT_MAX]}]


def _usual(job: Job, lengths: Sequence[int], complete: bool) -> int | None:
    """The length that counts, if that can be said yet."""
    if job.samples is not None:
        return job.samples.epoch
    most = max(lengths, key=lengths.count, default=None)
    expected = len(lengths) if complete else len(job.assigned)
    is_majority = most is not None and 2 * lengths.count(most) > expected
    return most if is_majority or len(set(lengths)) == 1 else None
