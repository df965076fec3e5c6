"""Random tests try the same examples everywhere; EXPLORE=1 makes them look for new ones.

A failure prints the smallest example found; an example worth keeping goes into the test as
`@example`. Files with real processes come first, the longest of all before the others: they mostly
wait, and what is left at the end goes to whichever worker is free.
"""

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an input takes to make is up to who else computes on this machine.
SLOW_MACHINE = [HealthCheck.too_slow]
settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=SLOW_MACHINE
)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("explore" if os.environ.get("EXPLORE") else "same")

# What collecting makes stays: looking for garbage in it again and again is a sixth of the time that
# it takes, in each worker, and later a pause in the middle of a test.
gc.disable()

LONGEST = (
    *("test_cluster_training.py", "test_cluster_tasks.py", "test_cluster_control.py"),
    "test_tui_terminal.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In an order by files: those of LONGEST, others with processes, and then the rest as it is."""
    slow = {item.path.name for item in items if item.get_closest_marker("processes")}
    rank = {name: len(LONGEST) for name in slow} | {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST) + 1))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """As `tmp_path`, but short enough for peers to have their sockets in it."""
    with tempfile.TemporaryDirectory(prefix="p2p-") as folder:
        yield Path(folder)
