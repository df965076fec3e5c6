"""The parts of checkpoints on one peer's disk: which there are, and their removal."""

import contextlib
import threading
from pathlib import Path
from typing import Protocol

from p2p.agent import File
from p2p.checkpoints.names import TEMPORARY, step_of
from p2p.errors import P2PError


class Shelf(Protocol):
    @property
    def files(self) -> dict[str, File]:
        """By path."""

    def add(self, path: str, job: str, step: int) -> None:
        """A trainer wrote it."""

    def look(self, job: str) -> None:
        """Its trainer here ended: it may have written something and died before it could say so."""

    def remove(self, path: str) -> None:
        """Delete it, now or soon."""

    def read(self, path: str, offset: int, count: int) -> bytes:
        """Raises P2PError when it cannot be read."""

    def take_in(self, path: str, job: str, name: str, step: int) -> str:
        """Keep a file that was fetched; where it is now."""


class MemoryShelf:
    """The twin: remembers names only."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}

    def add(self, path: str, job: str, step: int) -> None:
        self.files[path] = File(job, step)

    def look(self, job: str) -> None:
        """Only names are remembered, so there is nothing else."""

    def remove(self, path: str) -> None:
        self.files.pop(path, None)

    def read(self, path: str, offset: int, count: int) -> bytes:
        raise P2PError(f"cannot read {path}: it is in memory only")

    def take_in(self, path: str, job: str, name: str, step: int) -> str:
        self.add(path, job, step)
        return path


class FolderShelf(MemoryShelf):
    """A folder per job. Made before any trainer runs: what is half written is nobody's."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        for path in folder.glob("*/*"):
            if path.name.startswith(TEMPORARY):
                self.remove(str(path))
        for job in folder.glob("*/"):
            self.look(job.name)

    def look(self, job: str) -> None:
        for path in (self._folder / job).glob("*"):
            step = step_of(path.name)
            if step is not None:
                self.add(str(path), job, step)

    def read(self, path: str, offset: int, count: int) -> bytes:
        try:
            with Path(path).open("rb") as file:
                file.seek(offset)
                return file.read(count)
        except OSError as error:
            raise P2PError(f"cannot read {path}: {error.strerror}") from error

    def take_in(self, path: str, job: str, name: str, step: int) -> str:
        """By a second name beside the job's own: from there it is removed like those."""
        kept = self._folder / job / name
        try:
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept.unlink(missing_ok=True)
            kept.hardlink_to(path)
        except OSError:  # another file system, say
            return path
        return super().take_in(str(kept), job, name, step)

    def remove(self, path: str) -> None:
        """By a thread: a file system takes its time to free gigabytes."""
        super().remove(path)
        threading.Thread(target=_unlink, args=(Path(path),), name="remove", daemon=True).start()


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):  # it stays, and the next start of the peer tries again
        path.unlink(missing_ok=True)
        path.parent.rmdir()  # only when nothing else is in it
