"""Fine-tuning: what classifier.py has learned is frozen, a new head tells even from odd digits."""

import torch
from classifier import Classifier
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import TensorDataset


class EvenOrOdd(Classifier):
    epochs = 1

    def model(self):
        model = super().model()
        model.load_state_dict(load_file(self.options["weights"]))
        model.requires_grad_(False)
        model[-1] = nn.Linear(24 * 4 * 4, 2)
        return model

    def dataset(self, split):
        pictures, labels = super().dataset(split).tensors
        return TensorDataset(pictures, labels % 2)

    def optimizer(self, model):
        return torch.optim.AdamW(model[-1].parameters(), lr=self.lr)
