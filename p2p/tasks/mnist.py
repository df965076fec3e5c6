"""mnist: the classic CNN on the four IDX files of a folder you have (`--data DIR`)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from torch.utils.data import TensorDataset

from p2p.tasks import idx
from p2p.tasks.builtin import MNIST_FILES, check_mnist

MEAN, DEVIATION = 0.1307, 0.3081  # of the training pictures, scaled to 0..1


class Mnist:
    global_batch = 120
    epochs = 3
    lr = 1e-3

    def __init__(self, options: Any) -> None:
        self.options = options
        check_mnist(options.data)
        self.folder = Path(options.data)

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 32, 3),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Linear(64 * 12 * 12, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, 10),
        )

    def dataset(self, split: str) -> TensorDataset:
        """Pictures 1 x 28 x 28, normalised, and labels 0..9."""
        image_name, label_name = MNIST_FILES[split == "test"]
        images = torch.from_numpy(idx.read(idx.find(self.folder, image_name), 3).copy())
        labels = torch.from_numpy(idx.read(idx.find(self.folder, label_name), 1).copy())
        pictures = (images.unsqueeze(1).float() / 255 - MEAN) / DEVIATION
        return TensorDataset(pictures, labels.long())

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        pictures, labels = batch
        return functional.cross_entropy(model(pictures), labels)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=self.lr, fused=True)

    def schedule(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        return CosineAnnealingLR(optimizer, self.options.steps_total)

    def evaluate(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Any]:
        pictures, labels = batch
        return {"accuracy": model(pictures).argmax(dim=1) == labels}
