"""What a view is: a name, what it asks of the cluster, and where its panes go."""

from collections.abc import Callable
from dataclasses import dataclass

from tui.layout import Area, Placed
from tui.scene import Scene


@dataclass(frozen=True, slots=True)
class View:
    """`needs` names the requests (tui/asks.py) that are made while it is shown; status and events
    are always asked for. `series`: whose histories are shown, as names of metrics. `short` is its
    title where there is little room.
    """

    name: str
    title: str
    short: str
    summary: str
    place: Callable[[Scene, Area], list[Placed]]
    needs: frozenset[str] = frozenset()
    series: tuple[str, ...] = ()
