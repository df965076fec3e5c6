"""A small network with dropout and BatchNorm: buffers must have the same bits everywhere, too."""

import torch
from torch import nn

from p2p.tasks.digits import Digits


class BatchNorm(Digits):
    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 96),
            nn.BatchNorm1d(96),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(96, 10),
        )

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
