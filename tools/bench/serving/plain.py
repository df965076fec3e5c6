"""A generate loop with a cache of keys and values in plain PyTorch, for textgpt."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from p2p.tasks.textgpt import Gpt


class PlainLoop:
    """One stream, the likeliest token each time."""

    def __init__(self, model: Gpt) -> None:
        self._model = model.eval()
        block: Any = model.blocks[0]
        heads, width = block.heads, block.project.in_features
        sizes = 1, heads, model.context, width // heads
        self._caches = [(torch.zeros(sizes), torch.zeros(sizes)) for _ in model.blocks]

    @torch.inference_mode()
    def generate(self, prompt: list[int], count: int) -> list[int]:
        """The next `count` ids."""
        ids, tokens, place = [], torch.tensor([prompt]), 0
        for _ in range(count):
            scores = self._step(tokens, place)
            place += tokens.shape[1]
            tokens = scores[:, -1].argmax(dim=-1, keepdim=True)
            ids.append(int(tokens))
        return ids

    def _step(self, tokens: Tensor, place: int) -> Tensor:
        model: Any = self._model
        until = place + tokens.shape[1]
        x = model.bytes(tokens) + model.positions(torch.arange(place, until))
        for block, (keys, values) in zip(model.blocks, self._caches, strict=True):
            samples, length, width = x.shape
            wide = block.query_key_value(block.norm_attention(x))
            parts = wide.view(samples, length, 3, block.heads, width // block.heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            keys[:, :, place:until], values[:, :, place:until] = key, value
            mixed = functional.scaled_dot_product_attention(
                query, keys[:, :, :until], values[:, :, :until], is_causal=length > 1
            )
            x = x + block.project(mixed.transpose(1, 2).reshape(samples, length, width))
            x = x + block.narrow(functional.gelu(block.widen(block.norm_forward(x))))
        return model.head(model.norm(x[:, -1:]))  # type: ignore[no-any-return]
