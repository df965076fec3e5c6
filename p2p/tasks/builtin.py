"""The tasks that come with the program, known by name, without importing torch.

A new task = one file with its class, one line in TASKS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from p2p.errors import Usage
from p2p.tasks import idx, text

MNIST_FILES = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)


@dataclass(frozen=True)
class Builtin:
    """`check(data)` raises Usage with one sentence when the data is missing or damaged."""

    name: str
    module: str
    class_name: str
    summary: str
    check: Callable[[str | None], None]


def check_digits(data: str | None) -> None:
    if data is not None:
        raise Usage("digits brings its own data: leave --data out")
    if not (resources.files("p2p.tasks") / "digits.npz").is_file():
        raise Usage("p2p/tasks/digits.npz is missing from this installation: install it again")


def check_mnist(data: str | None) -> None:
    """Reads every file once (11 MB gzipped, about 0.3 s): call it off the event loop."""
    if data is None:
        raise Usage("mnist needs --data DIR, the folder with the four IDX files")
    folder = Path(data)
    if not folder.is_dir():
        raise Usage(f"{folder} is not a folder: --data names the one with the four IDX files")
    for names in MNIST_FILES:
        image_file, label_file = (idx.find(folder, name) for name in names)
        images, labels = idx.read(image_file, 3), idx.read(label_file, 1)
        if images.shape[1:] != (28, 28):
            raise Usage(f"{image_file} has pictures of {images.shape[1:]}, expected (28, 28)")
        if not 0 < len(images) == len(labels):
            raise Usage(f"{image_file} has {len(images)} pictures, {label_file} {len(labels)}")
        if labels.max() > 9:
            raise Usage(f"{label_file} is damaged: it has the label {labels.max()}")


def check_text(data: str | None) -> None:
    text.files(data)


TASKS: dict[str, Builtin] = {
    task.name: task
    for task in (
        Builtin(
            "digits",
            "p2p.tasks.digits",
            "Digits",
            "small CNN on 1,797 real handwritten digits, data included",
            check_digits,
        ),
        Builtin(
            "mnist",
            "p2p.tasks.mnist",
            "Mnist",
            "the classic CNN on MNIST, --data DIR with the four IDX files",
            check_mnist,
        ),
        Builtin(
            "textgpt",
            "p2p.tasks.textgpt",
            "TextGpt",
            "byte-level GPT on Python's own sources, or on --data FILE|DIR",
            check_text,
        ),
    )
}


def check(task: str, data: str | None) -> None:
    """Is the built-in `task` ready to run with `data`? Raises Usage with the reason if not."""
    if task not in TASKS:
        known = ", ".join(sorted(TASKS))
        raise Usage(f"no built-in task {task!r}: there are {known}, or give FILE.py:Class")
    TASKS[task].check(data)
