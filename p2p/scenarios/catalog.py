"""The scenarios there are, in the order in which `all` plays them.

A new one = a file NAME.toml in this folder, in the format of a user's own (docs/scenarios.md), and
one name here.
"""

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from p2p.errors import Usage

if TYPE_CHECKING:
    from p2p.scenarios.scenario import Scenario

NAMES = (
    "baseline",
    "dynamic-scaling",
    "peer-failure",
    "leader-failure",
    "partition",
    "strategy-switching",
    "straggler",
    "checkpoint-restore",
    "scaling-efficiency",
)
DEFAULT = "leader-failure"
ALL = "all"


def find(wanted: str) -> "list[Scenario]":
    """One by its name, a user's own by its file, or all. Raises Usage."""
    if wanted == ALL:
        return [_builtin(name) for name in NAMES]
    if wanted in NAMES:
        return [_builtin(wanted)]
    if not wanted.endswith(".toml"):
        known = ", ".join((*NAMES, ALL))
        raise Usage(f"there is no scenario {wanted!r}: there are {known}, or give a FILE.toml")
    return [_from_file(Path(wanted).expanduser())]


def _builtin(name: str) -> "Scenario":
    with resources.as_file(resources.files("p2p.scenarios") / f"{name}.toml") as file:
        return _from_file(file)


def _from_file(file: Path) -> "Scenario":
    from p2p.scenarios.reading import read

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Usage(f"cannot read the scenario {file}: {why}") from error
    return read(text, file.stem, str(file), str(file.absolute().parent))
