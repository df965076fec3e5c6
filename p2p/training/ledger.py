"""How often each sample was used: counted from applied steps, part of the training state.

Counts are exact, per sample, for the epoch that runs; a finished epoch is kept as its totals.
"""

import base64
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from p2p.training.order import Indices


@dataclass
class Ledger:
    """`expected` = samples that the applied steps of the running epoch should have used."""

    train_samples: int
    epoch: int = 0
    expected: int = 0
    finished: list[dict[str, int]] = field(default_factory=list)
    counts: npt.NDArray[np.uint16] = field(default_factory=lambda: np.zeros(0, np.uint16))

    def __post_init__(self) -> None:
        if not len(self.counts):
            self.counts = np.zeros(self.train_samples, np.uint16)

    def record(self, epoch: int, used: Indices) -> None:
        """Enter the samples of one applied step."""
        if epoch != self.epoch:
            self.finished.append(self._line(self.train_samples))
            self.epoch, self.expected = epoch, 0
            self.counts[:] = 0
        np.add.at(self.counts, used, 1)
        self.expected += len(used)

    @property
    def samples(self) -> int:
        return sum(line["samples"] for line in self.finished) + int(self.counts.sum(dtype=np.int64))

    def lines(self) -> list[dict[str, int]]:
        """One line per epoch begun, epochs counted from 1.

        `missing` compares a finished epoch with the whole data set, the running one with what its
        applied steps should have used.
        """
        return [*self.finished, self._line(self.expected)] if self.expected else [*self.finished]

    def _line(self, expected: int) -> dict[str, int]:
        used = int(self.counts.sum(dtype=np.int64))
        distinct = int(np.count_nonzero(self.counts))
        return {
            "epoch": self.epoch + 1,
            "samples": used,
            "distinct": distinct,
            "repeated": used - distinct,
            "missing": max(0, expected - distinct),
        }

    def to_wire(self) -> dict[str, Any]:
        """JSON values; the counts compressed (a bit per sample, about)."""
        packed = zlib.compress(self.counts.astype("<u2").tobytes(), level=1)
        return {
            "epoch": self.epoch,
            "expected": self.expected,
            "finished": self.finished,
            "counts": base64.b64encode(packed).decode(),
        }

    @classmethod
    def from_wire(cls, train_samples: int, wire: dict[str, Any]) -> "Ledger":
        """Raises ValueError when the counts are for another number of samples."""
        raw = zlib.decompress(base64.b64decode(wire["counts"]))
        counts = np.frombuffer(raw, "<u2").astype(np.uint16)
        if len(counts) != train_samples:
            raise ValueError(f"a ledger of {len(counts)} samples, this data has {train_samples}")
        return cls(train_samples, wire["epoch"], wire["expected"], list(wire["finished"]), counts)
