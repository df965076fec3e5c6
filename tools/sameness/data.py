"""What the built-in tasks train on here, without a download."""

import argparse
import struct
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from p2p.tasks.builtin import MNIST_FILES

SIDE = 28
TIMES = 3  # 8 x 8 pixels become 24 x 24, and 2 on every side are black
HELD_OUT_EVERY = 5
TEXT = Path(argparse.__file__)  # real text, of which whole epochs are short


def enlarged_digits(folder: Path) -> str:
    """Makes `folder` with MNIST's four IDX files. In them are the pictures of the built-in digits:
    1,797 real handwritten ones of 8 x 8 pixels, enlarged to 28 x 28. Returns its path."""
    folder.mkdir()
    with (resources.files("p2p.tasks") / "digits.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        images, labels = arrays["images"], arrays["labels"]
    large = (images.astype(np.float32) * (255 / 16)).astype(np.uint8)
    large = large.repeat(TIMES, axis=1).repeat(TIMES, axis=2)
    edge = (SIDE - large.shape[1]) // 2
    large = np.pad(large, ((0, 0), (edge, edge), (edge, edge)))
    held_out = np.arange(len(labels)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    for (image_file, label_file), mine in zip(MNIST_FILES, (~held_out, held_out), strict=True):
        (folder / image_file).write_bytes(_idx(large[mine]))
        (folder / label_file).write_bytes(_idx(labels[mine].astype(np.uint8)))
    return str(folder)


def _idx(array: npt.NDArray[np.uint8]) -> bytes:
    head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()
