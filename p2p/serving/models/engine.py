"""One model and the caches of the streams that it is computing: rows in, scores out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2p.serving.batching import Row
from p2p.serving.models.rows import Cache, CacheShape, Places, Rows

# Before a replica answers, so many rows are computed together, and again in these pieces; the first
# few of them one by one as well, which takes as long for each as a dozen together.
CHECKED_ROWS = 17
CHECKED_PIECES = ((3, 4, 10), (1, 1, 1))


class Unfit(Exception):
    """This model cannot be served as promised; the sentence says why."""


class Served(Protocol):
    """What a task's `serve` gives (docs/serving.md)."""

    vocabulary: int
    context: int
    layers: int
    heads: int
    head_width: int
    ends: frozenset[int]

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> bytes: ...

    def scores(self, tokens: Tensor, places: Tensor, attend: Any, wanted: Tensor | None) -> Tensor:
        """float32[rows, vocabulary]"""


def shape_of(served: Served) -> CacheShape:
    return CacheShape(served.layers, served.heads, served.head_width, served.context)


@dataclass
class Engine:
    """`slots` streams at the same time. Raises Unfit in `check`."""

    served: Served
    rows: Rows
    slots: int
    device: torch.device
    row_s: float = 0.0  # that a row takes among others, once it was checked

    def __post_init__(self) -> None:
        self._cache: Cache = self.rows.cache(shape_of(self.served), self.slots)

    @torch.inference_mode()
    def step(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Scores of the rows that want them, in their order: float32[wanted, vocabulary]."""
        table = torch.from_numpy(
            np.array([(row.token, row.place, row.slot) for row in rows], np.int64).T.copy()
        )
        tokens, places, slots = table
        at = Places(slots, places)
        found = [number for number, row in enumerate(rows) if row.is_wanted]
        picked = torch.tensor(found, dtype=torch.int64, device=self.device)  # may be none
        wanted = None if len(found) == len(rows) else picked

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return self._cache.attend(layer, at, query, key, value)

        told = tokens.to(self.device), places.to(self.device)
        scores = self.served.scores(*told, attend, wanted)
        if scores.shape != (len(found), self.served.vocabulary):
            raise Unfit(f"scores() gave {tuple(scores.shape)} for {len(found)} wanted rows")
        return np.ascontiguousarray(scores.float().cpu().numpy())

    def check(self) -> None:
        """Warms up, and computes the same rows together and in pieces: the bits must be equal."""
        served = self.served
        count = min(CHECKED_ROWS, served.context)
        tokens = [(number * 37 + 11) % served.vocabulary for number in range(count)]
        checked = [(place, token, True) for place, token in enumerate(tokens)]
        began_s = time.monotonic()
        whole = self.step([Row(self.slots - 1, *told) for told in checked])
        self.row_s = (time.monotonic() - began_s) / count
        for pieces in CHECKED_PIECES:
            at = 0
            for taken in pieces:
                piece = [Row(0, *told) for told in checked[at : at + taken]]
                if not piece:  # of a context that is shorter
                    break
                # Beside the others of a stream in another slot, but for those that are alone.
                beside = [Row(self.slots - 1, *told) for told in checked[:at]] if taken > 1 else []
                found = self.step([*piece, *beside])[: len(piece)]
                if not np.array_equal(found.view(np.int32), whole[at : at + taken].view(np.int32)):
                    raise Unfit(
                        "its scores for a token depend on the tokens computed beside it, so an "
                        "answer would depend on what others ask: `serve` must compute each row by "
                        "itself, with the linear layers that it is given"
                    )
                at += taken
        if not np.isfinite(whole).all():
            raise Unfit("it gives NaN or Inf instead of scores")
