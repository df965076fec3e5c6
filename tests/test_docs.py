"""What the documents show is what there is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["classifier.py", "gpt.py", "finetune.py"])
def test_the_readme_shows_the_examples_as_they_are(name: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert (ROOT / "docs" / "examples" / name).read_text() in blocks


def test_the_tests_that_the_correctness_table_names_exist() -> None:
    table = (ROOT / "docs" / "correctness.md").read_text()
    rows = [line for line in table.splitlines() if re.match(r"\| \d", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 33))
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            source = (ROOT / "tests" / file).read_text()
            assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), f"{file}::{test}"
