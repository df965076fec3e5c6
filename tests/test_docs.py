"""What the documents show is what there is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["classifier.py", "gpt.py", "finetune.py"])
def test_the_readme_shows_the_examples_as_they_are(name: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert (ROOT / "docs" / "examples" / name).read_text() in blocks
