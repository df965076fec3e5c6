"""IDX files, the format of MNIST: a magic number, the sizes, then bytes. Gzipped or not.

Big-endian: 0x00 0x00, type (0x08 = unsigned byte), number of dimensions, each size as uint32.
Source: the format section of Y. LeCun's page on the MNIST database.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from p2p.errors import Usage

UNSIGNED_BYTE = 0x08


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
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise Usage(f"cannot read {path}: {error}; download it again") from error
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
        raise Usage(
            f"{path} is not an IDX file of bytes with {dimensions} dimensions; download it again"
        )
    sizes = struct.unpack(f">{dimensions}I", data[4:header])
    expected = header
    count = 1
    for size in sizes:
        count *= size
    expected += count
    if len(data) != expected:
        raise Usage(f"{path} is damaged: {len(data)} bytes, {expected} expected; download it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(sizes)
