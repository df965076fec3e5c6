"""digits: a small CNN on the real handwritten digits of the UCI set (DATA.md says whose)."""

from importlib import resources
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

HELD_OUT_EVERY = 5


class Digits:
    global_batch = 60
    epochs = 20
    lr = 4e-3

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(24 * 4 * 4, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def dataset(self, split: str) -> TensorDataset:
        """Pictures 1 x 8 x 8 in 0..1 and labels 0..9; every fifth is held out for the test."""
        with (resources.files("p2p.tasks") / "digits.npz").open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            images, labels = arrays["images"], arrays["labels"]
        held_out = np.arange(len(labels)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        mine = held_out if split == "test" else ~held_out
        pictures = torch.from_numpy(images[mine].astype(np.float32) / 16).unsqueeze(1)
        return TensorDataset(pictures, torch.from_numpy(labels[mine].astype(np.int64)))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        pictures, labels = batch
        return functional.cross_entropy(model(pictures), labels)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=self.lr, fused=True)

    def evaluate(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Any]:
        pictures, labels = batch
        return {"accuracy": model(pictures).argmax(dim=1) == labels}
