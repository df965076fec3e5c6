"""The formats of datasets: a new one = one file in readers/ and one entry here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2p.datasets.readers import files, idx, images, npz, safetensors, text
from p2p.datasets.readers.reader import Description, Reader
from p2p.errors import P2PError, Usage

# In this order they are asked whether a dataset is theirs; the last one takes anything.
READERS: tuple[Reader, ...] = (
    *(idx.READER, npz.READER, safetensors.READER, images.READER),
    *(text.READER, files.READER),
)
NAMES = tuple(reader.name for reader in READERS)


def describe(root: Path, names: Sequence[str], format_: str | None) -> Description:
    """Raises Usage, P2PError. `format_` None: whichever claims it."""
    reader = _named(format_) if format_ else next(each for each in READERS if each.claims(names))
    try:
        return reader.describe(root, names)
    except OSError as error:
        raise P2PError(f"cannot read {error.filename}: {error.strerror}") from error


def preview(root: Path, names: Sequence[str], format_: str, limit: int) -> list[dict[str, Any]]:
    """Raises Usage, P2PError."""
    try:
        return _named(format_).preview(root, names, limit)
    except OSError as error:
        raise P2PError(f"cannot read {error.filename}: {error.strerror}") from error


def _named(format_: str) -> Reader:
    for reader in READERS:
        if reader.name == format_:
            return reader
    raise Usage(f"no format {format_!r}: there are {', '.join(NAMES)}")
