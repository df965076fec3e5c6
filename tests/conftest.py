"""Random tests try the same examples everywhere; EXPLORE=1 makes them look for new ones.

A failure prints the smallest example found; an example worth keeping goes into the test as
`@example`.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("explore" if os.environ.get("EXPLORE") else "same")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """As `tmp_path`, but short enough for peers to have their sockets in it."""
    with tempfile.TemporaryDirectory(prefix="p2p-") as folder:
        yield Path(folder)
