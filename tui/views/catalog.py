"""The views, in the order of their digits. A new view = one file and one line here."""

from tui.scene import Scene
from tui.views import (
    activity,
    alerts,
    data,
    events,
    jobs,
    overview,
    peers,
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
)
BY_NAME = {view.name: view for view in VIEWS}


def view_of(scene: Scene) -> View:
    return BY_NAME.get(scene.view, VIEWS[0])
