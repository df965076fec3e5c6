"""The list of benchmarks is complete and its command says what there is."""

import importlib

import pytest

from tools.bench.__main__ import BENCHMARKS, main


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_its_file(name: str) -> None:
    assert callable(importlib.import_module(f"tools.bench.{name}").main)


def test_the_command_lists_them_and_refuses_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in BENCHMARKS)
    assert main(["nothing"]) == 2
    assert "nothing" in capsys.readouterr().err
