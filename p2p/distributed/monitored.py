"""The barrier that names who did not come: everybody reports to rank 0, which answers.

Its sentences are those of torch's gloo backend, which programs look for.
"""

import threading
import time

from p2p.distributed.engine import Engine
from p2p.distributed.errors import GroupError, TimedOut

_TAG = 1 << 40  # beyond any tag that torch lets a program choose
_FINE, _FAILED = b"\x01", b"\x00"


class _Awaited:
    """One message of one byte that is under way."""

    def __init__(self) -> None:
        self.byte = bytearray(1)
        self.error: Exception | None = None
        self._ended = threading.Event()

    def done(self, error: Exception | None, rank: int) -> None:
        self.error = error
        self._ended.set()

    def wait(self) -> bool:
        self._ended.wait()
        return self.error is None


def barrier(engine: Engine, number: int, seconds: float, wait_all_ranks: bool) -> None:
    """The `number`-th of this group. Raises TimedOut on rank 0, GroupError on the others."""
    tag = _TAG + number
    if engine.rank == 0:
        _collect(engine, tag, seconds, wait_all_ranks)
    else:
        _report(engine, tag, seconds)


def _collect(engine: Engine, tag: int, seconds: float, wait_all_ranks: bool) -> None:
    milliseconds = f"{round(seconds * 1000)} ms"
    if seconds <= 0:
        raise TimedOut(f"Rank 0 timed out in monitoredBarrier after {milliseconds}.")
    deadline = time.monotonic() + seconds
    awaited = {}
    for rank in range(1, engine.size):
        awaited[rank] = here = _Awaited()
        left = deadline - time.monotonic()
        engine.mail.receive(rank, tag, memoryview(here.byte), here.done, left)
    missing: list[int] = []
    for rank, here in awaited.items():
        if not here.wait():
            missing.append(rank)
            if not wait_all_ranks:
                break
    answer = _FAILED if missing else _FINE
    for rank, here in awaited.items():
        if rank not in missing and here.error is None:
            engine.mail.send(rank, tag, memoryview(answer), _Awaited().done, seconds)
    if missing:
        who = f"Rank{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
        raise TimedOut(f"[Rank 0]: {who} failed to pass monitoredBarrier in {milliseconds}")


def _report(engine: Engine, tag: int, seconds: float) -> None:
    answer = _Awaited()
    engine.mail.receive(0, tag, memoryview(answer.byte), answer.done, seconds)
    engine.mail.send(0, tag, memoryview(b"\x01"), _Awaited().done, seconds)
    if not answer.wait() or bytes(answer.byte) != _FINE:
        why = f": {answer.error}" if answer.error else ""
        raise GroupError(
            f"Rank {engine.rank} successfully reached monitoredBarrier, but received errors while "
            f"waiting for send/recv from rank 0. Please check rank 0 logs for faulty rank{why}."
        )
