"""Which token comes next, drawn by chance that depends on the request alone. Pure.

The random number of a token is a function of the request's seed and the token's place in the
answer, so a request that goes on elsewhere draws as it would have here. Everything is computed in
float64, a row at a time or many: no row changes another's bits.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2p.serving.messages import Sampling

Scores = NDArray[np.float32]


def chance(seed: int, place: int) -> float:
    """A number from 0 to below 1, evenly spread, for token number `place` of an answer."""
    told = seed.to_bytes(8, "big") + place.to_bytes(8, "big")
    digest = hashlib.blake2b(told, digest_size=8, person=b"p2p-token").digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


def are_numbers(scores: Scores) -> NDArray[np.bool_]:
    """By row: whether one can be drawn from it, which NaN and Inf do not allow."""
    found: NDArray[np.bool_] = np.isfinite(scores.max(axis=1))
    return found


def draw(scores: Scores, how: Sequence[Sampling], places: Sequence[int]) -> list[int]:
    """A token for every row of scores[rows, vocabulary]; places: of the tokens in their answers.
    Of a row that `are_numbers` says no to, any number.

    The likeliest of equals is the one with the lowest number.
    """
    drawn = np.argmax(scores, axis=1)
    for row, (sampling, place) in enumerate(zip(how, places, strict=True)):
        if sampling.temperature > 0:
            drawn[row] = _drawn(scores[row], sampling, chance(sampling.seed, place))
    return [int(token) for token in drawn]


def _drawn(scores: Scores, sampling: Sampling, at: float) -> int:
    """The token at which the summed probabilities pass `at`, the tokens in order of number."""
    with np.errstate(all="ignore"):  # a tiny temperature: infinitely far, and of weight 0
        distance = scores.astype(np.float64) - float(scores.max())
        weights = np.exp(distance / sampling.temperature)
    kept = _kept(weights, sampling)
    if kept is not None:
        weights = np.where(kept, weights, 0.0)
    summed = np.cumsum(weights)
    return int(np.searchsorted(summed, at * summed[-1], side="right"))


def _kept(weights: NDArray[np.float64], sampling: Sampling) -> NDArray[np.bool_] | None:
    """Of the top_k likeliest, the fewest whose probabilities together reach top_p; at least one.
    None = all."""
    count = len(weights)
    most = min(sampling.top_k or count, count)
    if most == count and sampling.top_p >= 1:
        return None
    order = np.argsort(-weights, kind="stable")[:most]
    if sampling.top_p < 1:
        summed = np.cumsum(weights[order])
        enough = np.searchsorted(summed, sampling.top_p * summed[-1], side="left")
        order = order[: int(enough) + 1]
    kept = np.zeros(count, np.bool_)
    kept[order] = True
    return kept
