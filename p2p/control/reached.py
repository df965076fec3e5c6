"""How far a job's trainers are known to have come: when none of them is left, nobody else says it.

Marks are agreed only twice a second, so trainers that all die leave steps behind that no mark has.
"""

from collections.abc import Mapping
from typing import NamedTuple

from p2p.reports import PeerReport


class Reached(NamedTuple):
    """A later generation may stand at an earlier step: what was lost is lost only once."""

    generation: int
    step: int


def farthest(known: Mapping[str, Reached], report: PeerReport) -> dict[str, Reached]:
    """By job: what is `known`, or what `report` says if that is more."""
    reached = dict(known)
    for job, trainer in report.trainers.items():
        for told in (trainer.progress, trainer.mark, trainer.finished):
            if told:
                said = Reached(told["generation"], told["step"])
                reached[job] = max(reached.get(job, said), said)
    return reached
