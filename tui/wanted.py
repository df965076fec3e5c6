"""What a scene needs to know, told to the feed (tui/asks.py). Pure."""

from tui.asks import NEEDS, Wants
from tui.panes.data import DATASETS
from tui.scene import Scene
from tui.views.catalog import VIEWS, view_of


def wants(scene: Scene, every_view: bool = False) -> Wants:
    """Of the view that is shown, or of all of them (for a recording)."""
    view, chosen = view_of(scene), scene.selection
    dataset, job = DATASETS.selected(scene), scene.job
    shown = VIEWS if every_view else (view,)
    job_id = job.id if job else "none"
    series = [name.replace("<job>", job_id) for one in shown for name in one.series]
    return Wants(
        needs=NEEDS if every_view else view.needs,
        peer=chosen.peer,
        job=chosen.job,
        dataset=dataset.name if dataset else None,
        series=tuple(dict.fromkeys(series)),
    )
