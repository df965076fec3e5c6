"""What so few trainers can be guarded against, and whom of them to name. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

RULES = ("median", "trimmed", "krum", "task")
NAMED_AFTER = 10  # steps in a row far from the rest; and as many in a row without, to be cleared


@dataclass(frozen=True)
class Guard:
    """The rule in force and how many faulty trainers it tolerates; `reason` if that is less than
    was asked for."""

    rule: str
    faulty: int
    reason: str | None = None


def guard(rule: str, faulty: int, trainers: int) -> Guard:
    """Another rule rather than less protection, and less protection rather than no training.

    Bounds as in collectives.aggregate; that of the user's own rule is not ours to know.
    """
    at_most = max(0, (trainers - 1) // 2)
    if rule == "task":
        return Guard(rule, min(faulty, at_most))
    needed = 2 * faulty + (3 if rule == "krum" and faulty else 1)
    if trainers >= needed:
        return Guard(rule, faulty)
    why = f"{rule} with faulty={faulty} needs {needed} trainers, there {_are(trainers)}"
    if faulty <= at_most:
        return Guard("median", faulty, f"{why}: the median is used instead")
    if at_most:
        return Guard("median", at_most, f"{why}: the median now tolerates {at_most}")
    return Guard("median", 0, f"{why}: the average is unprotected")


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


class Suspicion:
    """Whoever is far from the rest step after step is named, not whoever had one odd batch.

    Gradients are heavy-tailed: late in training, whoever has the one sample that is still hard
    stands apart in that step. Samples are shuffled, so it is somebody else in the next.
    """

    def __init__(self, ranks: int) -> None:
        self._runs = [0] * ranks  # > 0: so many suspicious steps in a row; < 0: so many others
        self._named = [False] * ranks

    def note(self, suspicious: Collection[int]) -> None:
        """The ranks that were far from the rest in this step."""
        for rank, before in enumerate(self._runs):
            run = max(before, 0) + 1 if rank in suspicious else min(before, 0) - 1
            self._runs[rank] = run
            if abs(run) >= NAMED_AFTER:
                self._named[rank] = run > 0

    @property
    def named(self) -> list[int]:
        return [rank for rank, named in enumerate(self._named) if named]
