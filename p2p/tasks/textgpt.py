"""textgpt: a byte-level GPT (Radford et al. 2019, pre-norm) on real text.

`--data FILE|DIR`, or the sources of Python's standard library, which every machine has. Options
(`--set`): width, layers, heads, context, dropout (per cent), schedule (constant, or cosine with a
linear warm-up). The defaults make 0.9 million parameters; width=320 layers=8 heads=8 make 10
million.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from p2p.errors import Usage
from p2p.tasks import text
from p2p.tasks.textgpt_rows import TextGptRows

BYTES = 256  # the vocabulary
HELD_OUT_EVERY = 20
DEFAULTS = {"width": 128, "layers": 4, "heads": 4, "context": 128}
WARM_UP = 20  # one step of so many, with schedule=cosine
LEAST_RATE = 0.1  # at its end


class Block(nn.Module):
    """Causal self-attention, then a feed-forward layer, each added to what came in."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.drop = nn.Dropout(dropout)
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_forward = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        samples, length, width = x.shape
        wide = self.query_key_value(self.norm_attention(x))
        parts = wide.view(samples, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.drop(self.project(mixed.transpose(1, 2).reshape(samples, length, width)))
        hidden = functional.gelu(self.widen(self.norm_forward(x)))
        return x + self.drop(self.narrow(hidden))  # type: ignore[no-any-return]


class Gpt(nn.Module):
    """Bytes [samples, length] in, scores of the next byte [samples, length, 256] out."""

    def __init__(self, width: int, layers: int, heads: int, context: int, dropout: float) -> None:
        super().__init__()
        self.context = context
        self.bytes = nn.Embedding(BYTES, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, BYTES, bias=False)
        self.apply(self._start)
        # What every block adds to the residual stream shall not grow with their number.
        for name, parameter in self.named_parameters():
            if name.endswith(("project.weight", "narrow.weight")):
                nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.bytes(tokens) + self.positions(places)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))  # type: ignore[no-any-return]

    @staticmethod
    def _start(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


class TextGpt:
    global_batch = 24
    epochs = 1
    lr = 1e-3

    def __init__(self, options: Any) -> None:
        self.data: str | None = options.data
        chosen = {name: _whole(options, name, value) for name, value in DEFAULTS.items()}
        self.width, self.layers, self.heads, self.context = chosen.values()
        if self.width % self.heads:
            raise Usage(f"--set width={self.width} must be a multiple of heads={self.heads}")
        self.options = options
        self.dropout = _whole(options, "dropout", 0, least=0) / 100
        if not self.dropout < 1:
            raise Usage("--set dropout=…: it must be per cent, from 0 to 99")
        self.rate = options.get("schedule", "constant")
        if self.rate not in ("constant", "cosine"):
            raise Usage(f"--set schedule={self.rate}: there is constant and cosine")
        self._samples: Tensor | None = None

    def model(self) -> nn.Module:
        return Gpt(self.width, self.layers, self.heads, self.context, self.dropout)

    def schedule(self, optimizer: torch.optim.Optimizer) -> Callable[[int], float]:
        return self._cosine if self.rate == "cosine" else lambda step: 1.0

    def dataset(self, split: str) -> TensorDataset:
        """Pieces of context + 1 bytes, uint8; every twentieth is held out for the test."""
        if self._samples is None:
            length = self.context + 1
            whole = np.frombuffer(text.read(self.data), np.uint8)
            pieces = len(whole) // length
            if pieces < HELD_OUT_EVERY:
                needed = HELD_OUT_EVERY * length
                raise Usage(f"the text has {len(whole)} bytes: at least {needed} are needed")
            array = whole[: pieces * length].reshape(pieces, length).copy()
            self._samples = torch.from_numpy(array)
        held_out = torch.arange(len(self._samples)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        return TensorDataset(self._samples[held_out if split == "test" else ~held_out])

    def loss(self, model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        return self._losses(model, batch).mean()

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        matrices = [p for p in model.parameters() if p.dim() > 1]
        vectors = [p for p in model.parameters() if p.dim() <= 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            groups, lr=self.lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )

    def evaluate(self, model: nn.Module, batch: tuple[Tensor]) -> dict[str, Any]:
        """Bits per byte of each piece: log2 of how surprised the model was, on average."""
        return {"bits_per_byte": self._losses(model, batch).mean(dim=1) / float(np.log(2))}

    def serve(self, model: nn.Module, linear: Any) -> TextGptRows:
        return TextGptRows(model, linear)

    def _cosine(self, step: int) -> float:
        """The factor of the learning rate: up in a line, then down in half a cosine."""
        total = int(self.options.steps_total)
        rising = max(1, total // WARM_UP)
        if step < rising:
            return (step + 1) / rising
        done = min(1.0, (step - rising) / max(1, total - rising))
        return LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * done))

    def _losses(self, model: nn.Module, batch: tuple[Tensor]) -> Tensor:
        """[samples, context]: of every byte after the first."""
        tokens = batch[0].long()
        scores = model(tokens[:, :-1])
        return functional.cross_entropy(scores.transpose(1, 2), tokens[:, 1:], reduction="none")


def _whole(options: Any, name: str, default: int, least: int = 1) -> int:
    given = options.get(name, str(default))
    if not given.isdecimal() or int(given) < least:
        raise Usage(f"--set {name}={given}: it must be a whole number from {least} up")
    return int(given)
