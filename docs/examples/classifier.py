"""An image classifier: convolution, BatchNorm, dropout, a cosine learning rate, clipping."""

from importlib.resources import files

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset


class Classifier:
    global_batch, epochs, lr = 120, 4, 8e-3
    clip_norm = 1.0

    def model(self):
        return nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(24 * 4 * 4, 10),
        )

    def dataset(self, split):
        digits = np.load(files("p2p.tasks") / "digits.npz")  # 1,797 pictures that are included
        held_out = np.arange(len(digits["labels"])) % 5 == 4
        mine = held_out if split == "test" else ~held_out
        pictures = torch.from_numpy(digits["images"][mine]).unsqueeze(1) / 16
        return TensorDataset(pictures, torch.from_numpy(digits["labels"][mine]).long())

    def loss(self, model, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])

    def optimizer(self, model):
        return torch.optim.AdamW(model.parameters(), lr=self.lr)

    def schedule(self, optimizer):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.options.steps_total)

    def evaluate(self, model, batch):
        return {"accuracy": model(batch[0]).argmax(dim=1) == batch[1]}
