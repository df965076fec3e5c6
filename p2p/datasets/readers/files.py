"""Any files at all: only the task knows what they mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2p.datasets.readers.reader import Description, Reader, each


def _describe(root: Path, names: Sequence[str]) -> Description:
    return Description("files", None, {"fields": [], "splits": {}})


def _preview(root: Path, names: Sequence[str], limit: int) -> list[dict[str, Any]]:
    return [
        {"split": "all", "index": i, "file": name, "fields": {"bytes": path.stat().st_size}}
        for i, (name, path) in enumerate(each(root, names[:limit]))
    ]


READER = Reader("files", lambda names: True, _describe, _preview)
