"""Whose fault it was: errors in the user's task as one sentence with file and line."""

import traceback
from pathlib import Path

import torch

from collectives.plane import Aborted
from p2p.errors import P2PError

SENTENCE_MAX = 500  # characters; some errors print all their data
REMEDY = (
    "draw random numbers from torch, numpy or random only and keep no state between calls, or "
    "submit it with --allow-nondeterminism"
)
LESS_MEMORY = "a smaller --global-batch, more --shards or accumulate in the task need less"
# How PyTorch says on a processor that there is no memory left; on a GPU it has an error of its own.
_ALLOCATOR = "can't allocate memory"


class Lacking(P2PError):
    """This machine lacks what the task needs: memory, or a file. Another one may have it."""


class TaskFailed(Exception):
    """The user's task raised or gave back something unusable; the message says what and where."""


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _ALLOCATOR in str(error)
    )


def sentence(error: BaseException, task_file: str | None = None) -> str:
    """The traceback's last line, and the innermost one of the task's own if it passes there."""
    if isinstance(error, P2PError | TaskFailed):
        return str(error)
    if is_out_of_memory(error):
        where = _place(error, task_file)
        return f"out of memory{f' ({where})' if where else ''}: {LESS_MEMORY}"
    last = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
    last = last if len(last) <= SENTENCE_MAX else f"{last[:SENTENCE_MAX]}…"
    where = _place(error, task_file)
    return f"{last} ({where})" if where else last


def _place(error: BaseException, task_file: str | None) -> str | None:
    if isinstance(error, SyntaxError) and error.filename == task_file and task_file:
        return f"{Path(task_file).name}:{error.lineno}"
    if task_file is None:
        return None
    frames = traceback.extract_tb(error.__traceback__)
    folder = f"{Path(task_file).parent}/"  # the modules that came with it lie beside it
    for frame in reversed(frames):
        if frame.filename.startswith(folder):
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return None


def user_code(task_file: str | None) -> "_UserCode":
    """Around every call into the task: what it raises becomes TaskFailed, or Lacking where another
    machine may do better."""
    return _UserCode(task_file)


class _UserCode:  # a class, not a generator: there are three around every shard
    __slots__ = ("_task_file",)

    def __init__(self, task_file: str | None) -> None:
        self._task_file = task_file

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, Aborted | TaskFailed | Lacking):
            return
        if isinstance(error, OSError) or is_out_of_memory(error):
            raise Lacking(sentence(error, self._task_file)) from error
        if isinstance(error, Exception | SystemExit):
            raise TaskFailed(sentence(error, self._task_file)) from error
