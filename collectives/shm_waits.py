"""How a rank waits for the others: it looks, then sleeps, and can always be woken."""

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from collectives import futex, kernels
from collectives.errors import LostPeer
from collectives.shm_control import ABANDONED, OtherControl, reached

LOOKS_BEFORE_SLEEP = 1000  # 50 us: about what it takes to fall asleep and be woken


class Generation(Protocol):
    """What the operations are part of."""

    awaited: frozenset[int]  # ranks, while this one sleeps

    def check(self) -> None:
        """Raises Aborted when the generation is over."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Until these ranks have completed so many steps."""

    steps: int
    of: Sequence[OtherControl]


class Waits:
    """`until` by one thread, the rest by any."""

    def __init__(self, generation: Generation, size: int) -> None:
        self._generation = generation
        # Where ranks share cores, looking keeps from work the one that is waited for.
        self._looks_before_sleep = LOOKS_BEFORE_SLEEP if size <= len(os.sched_getaffinity(0)) else 0
        self._asleep_on: int | None = None
        self._looks = 0
        self._lost: set[int] = set()

    def until(self, other: OtherControl, steps: int) -> None:
        """A rank has completed so many steps. Raises LostPeer when it never will, Aborted."""
        if not reached(other.word, steps):
            kernels.look(other.address, steps, self._looks_before_sleep)
        while not reached(word := other.word, steps):
            if word & ABANDONED:
                raise LostPeer(other.rank, "has left the generation")
            self._asleep_on = other.address
            self._looks += 1  # an interrupt from here on goes on until we look again
            try:
                self._generation.check()
                if other.rank in self._lost:
                    raise LostPeer(other.rank, "is gone")
                self._generation.awaited = frozenset((other.rank,))
                futex.wait(other.address, word)
            finally:
                self._asleep_on = None
                self._generation.awaited = frozenset()

    def on_lost(self, rank: int) -> None:
        self._lost.add(rank)
        self.interrupt()

    def interrupt(self) -> None:
        """Whoever sleeps in `until` looks at `check` again."""
        looks = self._looks
        while looks == self._looks and (address := self._asleep_on) is not None:
            with contextlib.suppress(OSError):  # it woke up, and the memory is gone
                futex.wake(address)
            time.sleep(0.0001)  # it may have looked just before, and be about to fall asleep
