"""Seeds of many random streams at once: what `order.seed_of` says of each, in a few array passes.

A step needs one for itself and one for each of its shards, and numpy's SeedSequence takes 10 to
50 us for one. Its mixing of 32-bit words (M. E. O'Neill, "Developing a seed_seq alternative", 2015;
frozen by NumPy's compatibility policy) is the same for every stream, so it is done for all of them
together.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Seeds = NDArray[np.uint64]
Words = NDArray[np.uint32]

AT_ONCE = 512  # seeds; take half a millisecond
BLOCKS_KEPT = 2  # of so many: local steps may go back and forth over the end of one
_POOL = 4
_INIT_A, _MULT_A, _INIT_B, _MULT_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
_LEFT, _RIGHT, _SHIFT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715), np.uint32(16)


def seeds_of(seed: int, purpose: int, steps: range, numbers: range | None) -> Seeds:
    """[step, number] of `seed_of(seed, purpose, step, number)`, or [step, 1] of `seed_of(seed,
    purpose, step)` where there are no numbers. All below 2^32, but `seed`."""
    shape = len(steps), 1 if numbers is None else len(numbers)
    low, high = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    words = [low, *([high] if high else []), purpose, np.array(steps)[:, np.newaxis]]
    if numbers is not None:
        words.append(np.array(numbers)[np.newaxis])
    entropy = [np.broadcast_to(np.asarray(word, np.uint32), shape) for word in words]
    first, second = _state(_pool(entropy, shape))
    joined: Seeds = first.astype(np.uint64) << np.uint64(32) | second
    return joined & np.uint64(2**63 - 1)


class StepSeeds:
    """The seeds of one purpose: `count` numbered ones per step (shards), or one without a number.

    Made AT_ONCE at a time, for steps and numbers that follow one another.
    """

    def __init__(self, seed: int, purpose: int, count: int | None = None) -> None:
        self._seed, self._purpose, self._numbered = seed, purpose, count is not None
        self._numbers = min(count or 1, AT_ONCE)
        self._steps = AT_ONCE // self._numbers
        self._block = lru_cache(BLOCKS_KEPT)(self._make)

    def of(self, step: int, number: int = 0) -> int:
        block = self._block(step // self._steps, number // self._numbers)
        return block[step % self._steps][number % self._numbers]

    def _make(self, block_of_steps: int, block_of_numbers: int) -> list[list[int]]:
        first, number = block_of_steps * self._steps, block_of_numbers * self._numbers
        numbers = range(number, number + self._numbers) if self._numbered else None
        steps = range(first, first + self._steps)
        made: list[list[int]] = seeds_of(self._seed, self._purpose, steps, numbers).tolist()
        return made


class _Hash:
    """SeedSequence's hash of words: its constant moves on with every use."""

    def __init__(self, start: int, factor: int) -> None:
        self._constant, self._factor = start, factor

    def __call__(self, words: Words) -> Words:
        mixed = words ^ np.uint32(self._constant)
        self._constant = self._constant * self._factor & 0xFFFFFFFF
        return _folded(mixed * np.uint32(self._constant))


def _pool(entropy: list[Words], shape: tuple[int, int]) -> list[Words]:
    hashed = _Hash(_INIT_A, _MULT_A)
    filled = [*entropy, *[np.zeros(shape, np.uint32)] * (_POOL - len(entropy))]
    pool = [hashed(words) for words in filled[:_POOL]]
    for source in range(_POOL):
        for at in range(_POOL):
            if at != source:
                pool[at] = _mixed(pool[at], hashed(pool[source]))
    for words in filled[_POOL:]:
        pool = [_mixed(each, hashed(words)) for each in pool]
    return pool


def _mixed(one: Words, other: Words) -> Words:
    return _folded(one * _LEFT - other * _RIGHT)


def _folded(words: Words) -> Words:
    folded: Words = words ^ words >> _SHIFT
    return folded


def _state(pool: list[Words]) -> tuple[Words, Words]:
    hashed = _Hash(_INIT_B, _MULT_B)
    return hashed(pool[0]), hashed(pool[1])
