"""What a playing scenario tells those who look on: lines, bars, the screen's caption. Pure."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Begins:
    """A scenario, `number` of `count`."""

    name: str
    why: str
    number: int
    count: int
    steps: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where its peers can be asked, as soon as there are some, and again when there are more."""

    addresses: tuple[str, ...]
    token_file: str


@dataclass(frozen=True, slots=True)
class Caption:
    """Step `number` of `count` begins."""

    number: int
    count: int
    says: str
    watch: str
    view: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands."""

    job: str
    state: str
    step: int
    steps_total: int
    members: int
    loss: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened or was measured."""

    text: str


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether one thing that must hold does."""

    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Ends:
    """A scenario is over; `text` says in a sentence how."""

    name: str
    ok: bool
    text: str


News = Begins | Cluster | Caption | Progress | Fact | Checked | Ends
Tell = Callable[[News], None]


def to_wire(news: News) -> dict[str, Any]:
    return {"news": type(news).__name__.lower(), **asdict(news)}
