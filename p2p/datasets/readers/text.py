"""Text in UTF-8: a sample is a line. (What a language model makes of it is up to the task.)"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2p.datasets.readers.reader import Description, Reader, all_named, each
from p2p.errors import Usage

SUFFIXES = (".txt", ".py", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".html")
READ_BYTES = 1 << 20
LINE_SHOWN_MAX = 500


def _describe(root: Path, names: Sequence[str]) -> Description:
    lines = size = 0
    for _, path in each(root, names):
        last = b"\n"
        with path.open("rb") as file:
            while data := file.read(READ_BYTES):
                if b"\0" in data:
                    raise Usage(f"{path} is not text: try --format files")
                lines += data.count(b"\n")
                size, last = size + len(data), data[-1:]
        lines += last != b"\n"
    fields = [{"name": "line", "dtype": "utf-8", "shape": []}]
    return Description("text", lines, {"fields": fields, "splits": {"all": lines}, "bytes": size})


def _preview(root: Path, names: Sequence[str], limit: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, path in each(root, names):
        with path.open("rb") as file:
            while len(rows) < limit and (line := file.readline(READ_BYTES)):
                text = line.decode(errors="replace").rstrip("\r\n")[:LINE_SHOWN_MAX]
                rows.append(
                    {"split": "all", "index": len(rows), "file": name, "fields": {"line": text}}
                )
    return rows


READER = Reader("text", all_named(SUFFIXES), _describe, _preview)
