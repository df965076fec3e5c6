"""A task's methods are plain PyTorch: here without p2pnode, one epoch, saved for finetune.py."""

import sys

from classifier import Classifier
from safetensors.torch import save_file
from torch.utils.data import DataLoader

task = Classifier()
model = task.model()
optimizer = task.optimizer(model)
for batch in DataLoader(task.dataset("train"), task.global_batch, shuffle=True):
    optimizer.zero_grad()
    task.loss(model, batch).backward()
    optimizer.step()
save_file(model.state_dict(), sys.argv[1])
