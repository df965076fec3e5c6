"""textgpt as a replica serves it: the same model, row by row, over the caches of many streams."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional


class TextGptRows:
    """A token is a byte. The attributes and methods are what docs/serving.md asks for."""

    vocabulary = 256
    ends = frozenset[int]()

    def __init__(self, model: Any, linear: Callable[[Any], Callable[[Tensor], Tensor]]) -> None:
        first = model.blocks[0]
        self.context, self.layers, self.heads = model.context, len(model.blocks), first.heads
        self.head_width = first.project.in_features // first.heads
        self._model = model
        self._head = linear(model.head)
        self._blocks = [
            (
                *(block.norm_attention, linear(block.query_key_value), linear(block.project)),
                *(block.norm_forward, linear(block.widen), linear(block.narrow)),
            )
            for block in model.blocks
        ]

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> bytes:
        return bytes(ids)

    def scores(
        self,
        tokens: Tensor,
        places: Tensor,
        attend: Callable[[int, Tensor, Tensor, Tensor], Tensor],
        wanted: Tensor | None,
    ) -> Tensor:
        """[rows, 256] of what comes after each token; of the `wanted` rows alone, if given."""
        model = self._model
        x = model.bytes(tokens) + model.positions(places)
        for layer, (norm, mix, project, norm_forward, widen, narrow) in enumerate(self._blocks):
            query, key, value = mix(norm(x)).chunk(3, dim=1)
            x = x + project(attend(layer, query, key, value))
            x = x + narrow(functional.gelu(widen(norm_forward(x))))
        return self._head(model.norm(x if wanted is None else x[wanted]))
