"""Where a dataset lies on a machine: at a path, or with the program, known by a name."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from p2p.errors import Usage
from p2p.tasks import text

PREFIX = "builtin:"
BUILTINS = ("digits", "textgpt")


@dataclass(frozen=True, slots=True)
class Place:
    """`names`: those of the folder's files that belong to it; None = all."""

    path: Path
    names: frozenset[str] | None = None


def place_of(where: str) -> Place:
    """`where` is a path, or one of BUILTINS with PREFIX. Raises Usage."""
    if not where.startswith(PREFIX):
        return Place(Path(where))
    name = where.removeprefix(PREFIX)
    if name == "digits":
        return Place(Path(str(resources.files("p2p.tasks") / "digits.npz")))
    if name == "textgpt":  # the sources of Python's standard library
        files = text.files(None)
        return Place(files[0].parent, frozenset(file.name for file in files))
    raise Usage(f"no built-in data {name!r}: there are {', '.join(BUILTINS)}")


def is_builtin(where: str) -> bool:
    return where.startswith(PREFIX)
