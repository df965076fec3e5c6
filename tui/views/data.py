"""Data: datasets, who computes which samples now, and samples as pictures."""

from tui.layout import Area, Placed, across, down, share
from tui.panes.data import DATASETS, PREVIEW, SHARDS
from tui.scene import Scene
from tui.views.view import View


def place(scene: Scene, area: Area) -> list[Placed]:
    datasets = share(4, 2 + len(scene.told.datasets or ()), area.height // 3)
    shards = share(
        4, 2 + len(scene.told.shards.rows if scene.told.shards else ()), area.height // 3
    )
    if area.width >= 140:
        lists = max(datasets, shards)

        def both(part: Area) -> list[Placed]:
            return across(part, (DATASETS, 0), (SHARDS, 0))

        return down(area, (both, lists), (PREVIEW, 0))
    return down(area, (DATASETS, datasets), (SHARDS, shards), (PREVIEW, 0))


VIEW = View(
    name="data",
    title="Data",
    short="Data",
    summary="datasets, shards of the step that is computed, samples as pictures",
    place=place,
    needs=frozenset({"datasets", "shards", "preview"}),
)
