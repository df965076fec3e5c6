"""How much faster more trainers were, as the peers measured it while jobs like this one trained."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tui import text
from tui.pane import Box, Record, Table, untold
from tui.rows import bar
from tui.scene import Line, Scene
from tui.table import Column, Row
from tui.told import Speed

POOR = 0.7  # an efficiency below this is what `p2pnode insights` advises about
BAR_WIDTH = 8


class ScalingPane(Table[Speed]):
    id = "scaling"
    word = "size"
    columns = (
        Column("trainers", "trainers", 8, "right"),
        Column("rate", "samples/s", 9, "right"),
        Column("efficiency", "efficiency", 10, "right"),
        Column("bar", "of the ideal", BAR_WIDTH, rank=1, grow=1, width_max=40),
    )

    def all_items(self, scene: Scene) -> Sequence[Speed]:
        job = scene.job
        return scene.told.scaling.get(job.id, ()) if job else ()

    def key(self, item: Speed) -> str:
        return str(item.trainers)

    def row(self, scene: Scene, item: Speed, widths: Mapping[str, int]) -> Row:
        tone = "warn" if item.efficiency < POOR else "ok"
        return Row(
            self.key(item),
            {
                "trainers": [(str(item.trainers), "text")],
                "rate": [(text.rate(item.samples_per_second), "text")],
                "efficiency": [(f"{item.efficiency:.0%}", tone)],
                "bar": bar(item.efficiency, widths.get("bar", 0), scene.ascii_only, tone),
            },
        )

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        items = self.all_items(scene)
        if len(items) < 2:
            return "scaling", []
        first, last = items[0], items[-1]
        times = last.samples_per_second / max(first.samples_per_second, 1e-9)
        told = f"{last.trainers} trainers: {times:.2f} times {first.trainers}"
        return "scaling", [(told, "dim")]

    def empty(self, scene: Scene) -> str:
        if scene.told.insights is None:
            return untold(scene, "insights")
        return "not measured yet: it takes some seconds with each number of trainers"

    def records(self, scene: Scene) -> list[Record]:
        return [asdict(speed) for speed in self.items(scene)]


SCALING = ScalingPane()
