"""Whether an optimizer updates each parameter by itself: tried out, for its type says little."""

import torch

from p2p.training.blame import TaskFailed, user_code
from p2p.training.task import Task

ROUNDS = 2  # the second one starts from the state that the first one left


def check_separable(task: Task) -> None:
    """Raises TaskFailed when a step of half of the parameters, then of the other half, gives other
    bits than one of all of them (LBFGS, clipping by the norm of all gradients in `step`, …)."""
    together, apart = task.model(), task.model()
    apart.load_state_dict(together.state_dict())
    optimizers = task.optimizer(together), task.optimizer(apart)
    kind = type(optimizers[0]).__name__
    refused = TaskFailed(
        f"the optimizer {kind} does not update every parameter by itself, so parameters cannot be "
        "served by different peers: use --strategy ring"
    )
    pairs = [
        (p, q)
        for p, q in zip(together.parameters(), apart.parameters(), strict=True)
        if p.requires_grad
    ]
    random = torch.Generator().manual_seed(0)
    for _ in range(ROUNDS):
        gradients = [torch.randn(p.shape, generator=random).to(p.dtype) for p, _ in pairs]
        for (p, _), gradient in zip(pairs, gradients, strict=True):
            p.grad = gradient.clone()
        with user_code(task.file):
            try:
                optimizers[0].step()
            except TypeError as error:  # it wants a closure, as LBFGS does
                raise refused from error
            for part in (0, 1):
                for number, (_, q) in enumerate(pairs):
                    q.grad = gradients[number].clone() if number % 2 == part else None
                optimizers[1].step()
    if not all(torch.equal(p, q) for p, q in pairs):
        raise refused
