"""A job's metrics as TensorBoard's event files, by torch's own writer."""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from p2p.errors import P2PError


class EventFiles:
    """A folder per run, in which TensorBoard shows a run each: one of every peer that trained.

    Raises P2PError when the package tensorboard is missing or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise P2PError("event files need tensorboard: pip install tensorboard") from error
        self._make: Any = SummaryWriter
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> "EventFiles":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._writers.values():
            writer.close()

    def add(self, run: str, tag: str, rows: Iterable[tuple[int, float, float]]) -> int:
        """Rows of (step, value, unix time), in order; returns how many there were."""
        count = 0
        try:
            if run not in self._writers:
                self._writers[run] = self._make(str(self._folder / run))
            for step, value, at in rows:
                self._writers[run].add_scalar(tag, value, step, at)
                count += 1
            self._writers[run].flush()
        except OSError as error:
            raise P2PError(f"cannot write {self._folder}: {error.strerror}") from error
        return count
