"""A small GPT on the bytes of any text: bf16, micro-batches, its own metric beside the loss."""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

WIDTH, LENGTH = 64, 32


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.bytes, self.places = nn.Embedding(256, WIDTH), nn.Embedding(LENGTH, WIDTH)
        block = nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, dropout=0.1, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 256)

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1])
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.blocks(self.bytes(tokens) + self.places(places), mask=mask))


class Gpt:
    global_batch, epochs, lr = 48, 1, 4e-3
    precision, accumulate, clip_norm = "bf16", 2, 1.0

    def model(self):
        return Model()

    def dataset(self, split):  # pieces of LENGTH + 1 bytes, every tenth for the test
        text = torch.frombuffer(bytearray(Path(self.options.data).read_bytes()), dtype=torch.uint8)
        pieces = text[: len(text) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1).long()
        held_out = torch.arange(len(pieces)) % 10 == 9
        return TensorDataset(pieces[held_out if split == "test" else ~held_out])

    def loss(self, model, batch):
        losses = self.losses(model, batch)
        return losses.mean(), {"bits_per_byte": losses.mean() / 0.6931}

    def losses(self, model, batch):
        scores = model(batch[0][:, :-1])
        return functional.cross_entropy(scores.mT, batch[0][:, 1:], reduction="none")

    def optimizer(self, model):
        return torch.optim.AdamW(model.parameters(), lr=self.lr)

    def schedule(self, optimizer):  # a function of the step: the factor of the learning rate
        return lambda step: 1 - step / self.options.steps_total

    def evaluate(self, model, batch):
        return {"bits_per_byte": self.losses(model, batch).mean(dim=1) / 0.6931}
