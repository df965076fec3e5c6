"""Bytes of text for language models: a file, a folder of files, or Python's own sources."""

import math
import sysconfig
from collections import Counter
from pathlib import Path

from p2p.errors import Usage

GENERATED = ("_sysconfigdata", "sitecustomize")  # differ from one installation to the next


def files(data: str | None) -> list[Path]:
    """What `read` would read, in its order. Raises Usage when there is nothing."""
    if data is None:
        folder = Path(sysconfig.get_paths()["stdlib"])
        found = [path for path in folder.glob("*.py") if not path.name.startswith(GENERATED)]
        if not found:
            raise Usage(f"{folder} has no sources of Python to learn from: give --data FILE|DIR")
        return sorted(found)
    path = Path(data)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise Usage(f"{path} is neither a file nor a folder: --data names the text to learn from")
    inside = (file for file in path.rglob("*") if file.is_file())
    found = [
        file
        for file in inside
        if not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    if not found:
        raise Usage(f"{path} has no files: --data names the text to learn from")
    return sorted(found)


def read(data: str | None) -> bytes:
    """All of it, file after file in the order of their paths. Raises Usage."""
    try:
        return b"\n".join(path.read_bytes() for path in files(data))
    except OSError as error:
        raise Usage(f"cannot read {error.filename}: {error.strerror}") from error


def unigram_bits(data: bytes) -> float:
    """Bits per byte that a model needs which knows how often each byte occurs, and nothing else:
    the entropy of their frequencies (Shannon 1948).
    """
    shares = [count / len(data) for count in Counter(data).values()]
    return -sum(share * math.log2(share) for share in shares)
