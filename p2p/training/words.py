"""Tensors of any type side by side in one array of 4-byte words, as they travel."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from p2p.training.layout import Float32s


class Words:
    """Where each tensor lies (`places`), by number, and its length (`sizes`); all in words."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = list(tensors)
        ends = np.cumsum([0, *(-(-t.nbytes // 4) for t in tensors)]).tolist()
        self.places = [slice(a, b) for a, b in pairwise(ends)]
        self.sizes: list[int] = [b - a for a, b in pairwise(ends)]
        self.length = int(ends[-1])

    def store(self, number: int, out: Float32s) -> None:
        """This tensor's bytes into out[words of this tensor]."""
        raw = (
            self._tensors[number].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        )
        out.view(np.uint8)[: len(raw)] = raw

    def load(self, number: int, words: Float32s) -> None:
        """The tensor becomes what `store` wrote."""
        tensor = self._tensors[number]
        raw: np.ndarray[Any, Any] = words.view(np.uint8)[: tensor.nbytes]
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(raw).view(tensor.dtype).view(tensor.shape))

    def gathered(self, numbers: Iterable[int]) -> Float32s:
        """These tensors, one after the other."""
        numbers = list(numbers)
        out = np.zeros(sum(self.sizes[n] for n in numbers), np.float32)
        at = 0
        for number in numbers:
            self.store(number, out[at : at + self.sizes[number]])
            at += self.sizes[number]
        return out

    def spread(self, numbers: Iterable[int], words: Float32s) -> None:
        """What `gathered` gave for the same numbers. Raises ValueError for another length."""
        numbers = list(numbers)
        if len(words) != sum(self.sizes[n] for n in numbers):
            raise ValueError(f"{len(words)} words are not tensors {numbers}")
        at = 0
        for number in numbers:
            self.load(number, words[at : at + self.sizes[number]])
            at += self.sizes[number]
