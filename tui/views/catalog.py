"""The views, in the order of their digits. A new view = one file and one line here."""

from collections.abc import Iterator

from tui.scene import Scene
from tui.views import (
    activity,
    alerts,
    data,
    events,
    jobs,
    overview,
    peers,
    prompt,
    settings,
    training,
)
from tui.views.view import View

VIEWS: tuple[View, ...] = (
    overview.VIEW,
    peers.VIEW,
    training.VIEW,
    data.VIEW,
    jobs.VIEW,
    activity.VIEW,
    events.VIEW,
    alerts.VIEW,
    settings.VIEW,
    prompt.VIEW,
)
DIGITS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)
BY_NAME = {view.name: view for view in VIEWS}


def numbered() -> Iterator[tuple[int, View]]:
    """The views with their digits."""
    return zip(DIGITS, VIEWS, strict=True)


def view_of(scene: Scene) -> View:
    return BY_NAME.get(scene.view, VIEWS[0])
