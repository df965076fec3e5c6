"""Folders of PNG and JPEG, a folder per class: [split/]class/picture.

Sizes are read from the files' heads; only a preview of the pixels needs Pillow
(`pip install p2pnode[images]`).
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from p2p.datasets.readers.reader import (
    SPLITS,
    Description,
    Reader,
    all_named,
    each,
    value_of,
)
from p2p.errors import Usage

SUFFIXES = (".png", ".jpg", ".jpeg")
CLASSES_TOLD_MAX = 200
HEAD_BYTES_MAX = 1 << 20
SHOWN_PIXELS_MAX = 32
_PNG = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers of JPEG (ITU T.81, table B.1).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) of a PNG or JPEG file. Raises Usage."""
    with path.open("rb") as file:
        head = file.read(24)
        if head[:8] == _PNG and head[12:16] == b"IHDR":
            width, height = struct.unpack(">II", head[16:24])
            return width, height
        if head[:2] == b"\xff\xd8":
            file.seek(2)
            found = _frame(file)
            if found is not None:
                return found
    raise Usage(f"{path} is neither PNG nor JPEG: take it out, or try --format files")


def _frame(file: IO[bytes]) -> tuple[int, int] | None:
    while file.tell() < HEAD_BYTES_MAX:
        marker = file.read(4)
        if len(marker) < 4 or marker[0] != 0xFF:
            return None
        length = int.from_bytes(marker[2:], "big")
        if marker[1] in _FRAMES:
            data = file.read(5)
            if len(data) < 5:
                return None
            height, width = struct.unpack(">HH", data[1:])
            return width, height
        file.seek(max(0, length - 2), 1)
    return None


def _place(name: str) -> tuple[str, str]:
    """(split, class) of a picture by its folders."""
    folders = name.split("/")[:-1]
    split = SPLITS.get(folders[0].lower()) if folders else None
    rest = folders[1:] if split else folders
    return split or "all", rest[0] if rest else ""


def _describe(root: Path, names: Sequence[str]) -> Description:
    splits: dict[str, int] = {}
    classes: set[str] = set()
    sizes = [size_of(path) for _, path in each(root, names)]
    for name in names:
        split, label = _place(name)
        splits[split] = splits.get(split, 0) + 1
        classes.add(label)
    widths, heights = zip(*sizes, strict=True)
    same = min(sizes) == max(sizes)
    shape = [heights[0], widths[0]] if same else [None, None]
    fields = [
        {"name": "image", "dtype": "png/jpeg", "shape": shape},
        {"name": "label", "dtype": "class", "shape": []},
    ]
    told = {"classes": sorted(classes)[:CLASSES_TOLD_MAX], "class_count": len(classes)}
    ends = {"width": [min(widths), max(widths)], "height": [min(heights), max(heights)]}
    return Description("images", len(names), {"fields": fields, "splits": splits, **told, **ends})


def _preview(root: Path, names: Sequence[str], limit: int) -> list[dict[str, Any]]:
    rows = []
    for number, (name, path) in enumerate(each(root, names[:limit])):
        split, label = _place(name)
        width, height = size_of(path)
        fields = {"label": label, "width": width, "height": height, **_pixels(path)}
        rows.append({"split": split, "index": number, "file": name, "fields": fields})
    return rows


def _pixels(path: Path) -> dict[str, Any]:
    """Small and grey, for the eye; nothing without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return {}
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            image.draft("L", (SHOWN_PIXELS_MAX, SHOWN_PIXELS_MAX))
            image.thumbnail((SHOWN_PIXELS_MAX, SHOWN_PIXELS_MAX))
            return {"image": value_of(np.asarray(image.convert("L")))}
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return {"image": "cannot be decoded"}


READER = Reader("images", all_named(SUFFIXES), _describe, _preview)
