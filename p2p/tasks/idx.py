"""IDX files, the format of MNIST: a magic number, the sizes, then the values. Gzipped or not.

Big-endian: 0x00 0x00, type (0x08 = unsigned byte), number of dimensions, each size as uint32.
Source: the format section of Y. LeCun's page on the MNIST database.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from p2p.errors import Usage

UNSIGNED_BYTE = 0x08
_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_SKIP_BYTES = 1 << 20


def find(folder: Path, name: str) -> Path:
    """`folder/name` or `folder/name.gz`. Raises Usage when there is neither."""
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise Usage(f"{folder} has no {name} and no {name}.gz: --data names the folder with both")


def read(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes with so many dimensions.

    Raises Usage, naming the file and what is wrong, when it is missing or damaged.
    """
    with _opened(path) as file:
        data = file.read()
    begins = 4 + 4 * dimensions
    if len(data) < begins or data[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
        raise Usage(
            f"{path} is not an IDX file of bytes with {dimensions} dimensions; download it again"
        )
    sizes = struct.unpack(f">{dimensions}I", data[4:begins])
    _check_length(path, len(data), begins + math.prod(sizes))
    return np.frombuffer(data, np.uint8, offset=begins).reshape(sizes)


def header(path: Path) -> tuple[str, tuple[int, ...]]:
    """(dtype, shape) of what is in the file, after a look at its length. Raises Usage."""
    with _opened(path) as file:
        dtype, shape, begins = _header(path, file)
        length = begins
        while data := file.read(_SKIP_BYTES):
            length += len(data)
    _check_length(path, length, begins + math.prod(shape) * dtype.itemsize)
    return str(dtype.newbyteorder("=")), shape


def head(path: Path, count: int) -> npt.NDArray[Any]:
    """The first `count` of its samples; no more is read. Raises Usage."""
    with _opened(path) as file:
        dtype, shape, _ = _header(path, file)
        wanted = (min(count, shape[0]), *shape[1:])
        length = math.prod(wanted) * dtype.itemsize
        data = file.read(length)
    _check_length(path, len(data), length)
    return np.frombuffer(data, dtype).reshape(wanted)


def _header(path: Path, file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not magic[3]:
        raise Usage(f"{path} is not an IDX file; download it again")
    sizes = file.read(4 * magic[3])
    _check_length(path, 4 + len(sizes), 4 + 4 * magic[3])
    shape = struct.unpack(f">{magic[3]}I", sizes)
    return np.dtype(_TYPES[magic[2]]), shape, 4 + 4 * magic[3]


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        open_: Any = gzip.open if path.suffix == ".gz" else open
        with open_(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise Usage(f"cannot read {path}: {error}; download it again") from error


def _check_length(path: Path, found: int, expected: int) -> None:
    if found != expected:
        raise Usage(f"{path} is damaged: {found} bytes, {expected} expected; download it again")
