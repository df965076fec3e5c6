"""How long a shard takes this trainer: means over times long enough to say something.

A mean and not a median: a trainer that gets a third of a processor computes most of its shards at
full speed and some of them very slowly.
"""

MEASURED_S = 1.0  # each measurement covers steps of so many seconds
STEPS_MIN = 2


class PaceMeter:
    """Of one generation. `told` has the last two measurements as [shard_s, step_s]."""

    def __init__(self) -> None:
        self.told: list[list[float]] = []
        self._forget()

    def step(self, computed_s: float, shards: int, whole_s: float) -> None:
        """One round: `shards` of this trainer took `computed_s`, all of it `whole_s`."""
        self._computed_s += computed_s
        self._shards += shards
        self._whole_s += whole_s
        self._steps += 1
        if self._whole_s >= MEASURED_S and self._steps >= STEPS_MIN and self._shards:
            measured = [self._computed_s / self._shards, self._whole_s / self._steps]
            self.told = [*self.told, measured][-2:]
            self._forget()

    def _forget(self) -> None:
        self._computed_s = self._whole_s = 0.0
        self._shards = self._steps = 0
