"""Writes checkpoints of a run while it goes on: copies first, then a thread does the slow part."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from p2p.training import checkpoint
from p2p.training.blame import sentence
from p2p.training.run import Run, common
from p2p.training.state import state_hash
from p2p.training.stream import Message

# Without --checkpoint-every: at the end of an epoch if the last one is so old, and in the midst of
# an epoch if it is so much older.
EPOCH_CHECKPOINT_S = 5.0
CHECKPOINT_S = 60.0


def is_due(before: int, step: int, every: int | None, ends_epoch: bool, age_s: float) -> bool:
    """Whether a checkpoint is due after the round from `before` to `step`, the last being `age_s`
    old: with `every`, when a multiple of it was reached or passed."""
    if every is not None:
        return step // every > before // every
    return age_s >= (EPOCH_CHECKPOINT_S if ends_epoch else CHECKPOINT_S)


class Checkpoints:
    """One at a time; a second waits for the first."""

    def __init__(self, folder: Path, run: Run, send: Callable[[Message], None]) -> None:
        self._folder, self._run, self._send = folder, run, send
        self._thread: threading.Thread | None = None
        self._last_written = -1
        self._started_at = time.monotonic()
        checkpoint.sweep(folder)

    def is_due(self, before: int, step: int) -> bool:
        """After the round from step `before` to `step`."""
        every, ends_epoch = self._run.spec.checkpoint_every, self._run.schedule.ends_epoch(step)
        return is_due(before, step, every, ends_epoch, time.monotonic() - self._started_at)

    def start(self) -> None:
        """Write the newest whole state in the background.

        A failure is reported as "checkpoint_failed"; training goes on.
        """
        self.wait()
        self._started_at = time.monotonic()
        self._thread = threading.Thread(target=self._try, args=self._all(), name="checkpoint")
        self._thread.start()

    def write_final(self) -> None:
        """Write now, unless this step is written already. Raises CheckpointFailed."""
        self.wait()
        if self._last_written != self._run.position.step:
            self._write(*self._all())

    def _all(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, metadata = self._run.whole()
        return {**tensors, **self._run.own()}, metadata

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _try(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        try:
            self._write(tensors, metadata)
        except Exception as error:  # whatever it is, training goes on and the peer hears of it
            told = {"step": metadata["step"], "error": sentence(error)}
            self._send({"kind": "checkpoint_failed", **told})

    def _write(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        began, step = time.monotonic(), int(metadata["step"])
        digest = state_hash(common(tensors))
        data = checkpoint.pack(tensors, {**metadata, "state_hash": digest})
        path = checkpoint.write(self._folder, step, data)
        self._last_written = step
        self._send(
            {
                "kind": "checkpoint",
                "step": step,
                "path": str(path),
                "bytes": len(data),
                "seconds": time.monotonic() - began,
                "state_hash": digest,
            }
        )
