"""What a cluster on this host leaves in the temporary folder: nothing, sooner or later."""

import os
import signal
import tempfile
from pathlib import Path

import pytest

from p2p.local_folder import LOCK, PREFIX, LocalFolder


def test_the_folder_of_an_owner_that_was_killed_goes_when_the_next_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lives = LocalFolder()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        made = LocalFolder()
        (made.path / "peer-1").mkdir()
        os.write(writer, str(made.path).encode())
        signal.pause()
    killed = Path(os.read(reader, 4096).decode())
    others = tmp_path / f"{PREFIX}of-others"  # no lock: not one of these
    others.mkdir()
    seen = LocalFolder()
    assert killed.is_dir(), "its owner lives"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    last = LocalFolder()
    assert set(tmp_path.iterdir()) == {lives.path, seen.path, last.path, others}
    for folder in (lives, seen, last):
        assert (folder.path / LOCK).exists()
        folder.remove()
        folder.remove()
    assert list(tmp_path.iterdir()) == [others]
