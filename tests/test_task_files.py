"""What travels with a task's file: found by its imports, or declared; checked where it arrives."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from p2p import job_spec, task_files
from p2p.errors import Usage

TASK = """
import math
import torch
import blocks
from layers.dense import Dense
class Mine:
    modules = ["words.txt", "plugins/"]
"""
BESIDE = {
    "blocks.py": "import deeper\nfrom numpy import array",
    "deeper.py": "import mine, blocks  # in a circle",
    "layers/__init__.py": "",
    "layers/dense.py": "from . import sparse\nimport inner_use",
    "layers/sparse.py": "",
    "layers/.hidden.py": "",
    "layers/__pycache__/dense.pyc": "",
    "inner_use.py": "",
    "words.txt": "a b c",
    "plugins/one.py": "import by_plugin",
    "plugins/two.json": "{}",
    "by_plugin.py": "",
    "unrelated.py": "",
    "data/large.py": "",
}


def written(folder: Path, task: str = TASK, beside: dict[str, str] = BESIDE) -> Path:
    for name, text in {**beside, "mine.py": task}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "mine.py"


def test_what_is_imported_or_declared_goes_along_and_nothing_else(tmp_path: Path) -> None:
    found = task_files.gather(written(tmp_path), "Mine")
    left = {"unrelated.py", "data/large.py", "layers/.hidden.py", "layers/__pycache__/dense.pyc"}
    assert found == {n: t.encode() for n, t in sorted(BESIDE.items()) if n not in left}
    assert task_files.gather(written(tmp_path, "import torch\n", {}), "Mine") == {}
    assert task_files.gather(written(tmp_path, "x = = 1\n", {}), "Mine") == {}


@pytest.mark.parametrize(
    ("task", "beside", "message"),
    [
        ("import random", {"random.py": ""}, "random.py hides the installed module random"),
        ("import torch.nn", {"torch/__init__.py": ""}, "torch hides the installed module torch"),
        ("modules = ['gone.py']", {}, "mine.py names 'gone.py' in modules, which is not beside it"),
        ("modules = ['../up.py']", {}, "'../up.py' cannot go with mine.py: name files below"),
        ("modules = ['/etc/passwd']", {}, "'/etc/passwd' cannot go with mine.py"),
        ("modules = 'one.py'", {"one.py": ""}, "line 1: modules must be a list of names"),
        ("class Mine:\n  modules = [x]", {}, "line 2: modules must be a list of names"),
        (
            "modules = ['big']",
            {"big": "#" * 2**20 + "#"},
            "mine.py with its modules is larger than 1024 KB",
        ),
        ("modules = ['pkg']", {f"pkg/{i}": "" for i in range(201)}, "more than 200 files"),
    ],
)
def test_what_cannot_travel_is_named(
    tmp_path: Path, task: str, beside: dict[str, str], message: str
) -> None:
    with pytest.raises(Usage, match=message):
        task_files.gather(written(tmp_path, task, beside), "Mine")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"../up.py": b""}, "'../up.py' cannot go with the task"),
        ({"/etc/passwd": b""}, "'/etc/passwd' cannot go"),
        ({"a/../../b": b""}, "cannot go"),
        ({"a//b": b""}, "cannot go"),
        ({"": b""}, "'' cannot go"),
        ({"a\0b": b""}, "cannot go"),
        ({"mine.py": b""}, "'mine.py' is the task's own file"),
        ({"a.py": "text"}, "task_files must map names to bytes"),
        ([b"a"], "task_files must map names to bytes"),
        ({f"{i}.py": b"" for i in range(201)}, "201 files go with the task"),
        ({"a.py": b"#" * 1024 * 1024}, "mine.py with its modules is larger than"),
    ],
)
def test_a_request_cannot_write_elsewhere(files: Any, message: str) -> None:
    request = {"task": "dir/mine.py:Mine", "task_source": b"class Mine: pass", "task_files": files}
    with pytest.raises(Usage, match=message):
        job_spec.checked(request)


def test_a_changed_file_is_another_job() -> None:
    def sha(**files: str) -> str:
        beside = {f"{name}.py": text.encode() for name, text in files.items()}
        request = {"task": "mine.py:Mine", "task_source": b"source", "task_files": beside or None}
        return str(job_spec.checked(request)["task_sha"])

    assert sha() == hashlib.sha256(b"source").hexdigest()
    different = [sha(), sha(a=""), sha(b=""), sha(a="1"), sha(a="", b=""), sha(a="1", b="")]
    assert len(set(different)) == len(different)
