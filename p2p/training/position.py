"""How far a run has come: everything of the training state that is not a tensor."""

from dataclasses import dataclass, field
from typing import Any

from p2p.training.ledger import Ledger
from p2p.training.order import Schedule


@dataclass
class Position:
    """`step` = steps applied. `metrics` are those of step `evaluated`, over the held-out split;
    `train_metrics` what the task measured beside the loss, over the samples of the last step.

    `skipped` = non-finite steps in a row up to now.
    """

    ledger: Ledger
    step: int = 0
    loss: float | None = None
    evaluated: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    skipped: int = 0
    train_metrics: dict[str, float] = field(default_factory=dict)

    def epoch(self, schedule: Schedule) -> int:
        """The epoch of the last applied step, from 1; 0 before the first."""
        return schedule.epoch_of(self.step - 1) + 1 if self.step else 0

    def to_wire(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "loss": self.loss,
            "evaluated": self.evaluated,
            "metrics": self.metrics,
            "skipped": self.skipped,
            "train_metrics": self.train_metrics,
            "ledger": self.ledger.to_wire(),
        }

    @classmethod
    def from_wire(cls, train_samples: int, wire: dict[str, Any]) -> "Position":
        """Raises ValueError or KeyError when this is not what `to_wire` made for this data."""
        return cls(
            Ledger.from_wire(train_samples, wire["ledger"]),
            int(wire["step"]),
            wire["loss"],
            int(wire["evaluated"]),
            dict(wire["metrics"]),
            int(wire["skipped"]),
            dict(wire.get("train_metrics", {})),
        )
