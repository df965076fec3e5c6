"""Every story in tests/transcripts still goes as it was recorded (see transcript_runner)."""

from pathlib import Path

import pytest

from tests.transcript_runner import blocks, played, stories


@pytest.mark.parametrize("path", stories(), ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    text = path.read_text()
    assert played(text) == text, f"python -m tests.transcript_runner --record {path.stem}"


def test_every_story_says_what_it_tells() -> None:
    for path in stories():
        first = next(blocks(path.read_text()))
        assert not first.commands, path.name
        assert len(" ".join(first.comment)) > 40, f"{path.name}: begin with why it goes as it goes"
