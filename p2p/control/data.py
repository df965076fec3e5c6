"""Who has other data than the rest, by what its trainer found. Pure."""

from collections import Counter

from p2p.control.failures import set_aside
from p2p.control.seated import Command, Names, Trainers
from p2p.replicated.state import Job


def unlike(job: Job, names: Names, trainers: Trainers) -> Command | None:
    """One trainer whose data set has another length than that of the job so far, or else of most.

    What differs within equal lengths is seen where a registered data set is checked, and by the
    first mark at the latest.
    """
    lengths = {
        peer: int(trainer.ready["train_samples"])
        for peer, trainer in sorted(trainers.items())
        if trainer.is_ready and type(trainer.ready.get("train_samples")) is int
    }
    if not lengths:
        return None
    count = Counter(lengths.values())
    most = max(count, key=lambda length: count[length])  # of equally many, the first peer's
    usual = job.samples.epoch if job.samples else most
    for peer, length in lengths.items():
        if length != usual:
            sentence = f"its data has {length} training samples, that of the others {usual}"
            return set_aside(job, peer, f"{names[peer]} is set aside: {sentence}")
    return None
