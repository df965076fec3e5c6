"""Strategies and codecs learn digits equally well; the table is `python -m tools.convergence`."""

import pytest

from tools.convergence import measure

LOCAL = {"local_steps": "3", "outer_lr": "1", "outer_momentum": "0.5"}


@pytest.mark.parametrize(("strategy", "options"), [("ring", {}), ("local-sgd", LOCAL)])
def test_eight_bits_learn_digits(strategy: str, options: dict[str, str]) -> None:
    row = measure(strategy, "int8", options, 2, epochs=5, shards=2)
    assert row.steps == 5 * 24
    assert row.accuracy >= 0.9
