"""The checkpoints of the shown job."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tui import text
from tui.pane import Box, Record, Table
from tui.scene import Line, Scene
from tui.snapshot import Checkpoint
from tui.table import Column, Row


class CheckpointsPane(Table[Checkpoint]):
    id = "checkpoints"
    word = "checkpoint"
    follows = True
    columns = (
        Column("step", "step", 8, "right"),
        Column("bytes", "size", 6, "right"),
        Column("seconds", "took", 7, "right", rank=1),
        Column("rate", "MB/s", 6, "right", rank=2),
        Column("peer", "on", 12, rank=3, grow=1, width_max=20),
        Column("path", "path", 20, rank=4, grow=3),
    )

    def all_items(self, scene: Scene) -> Sequence[Checkpoint]:
        return scene.detail.checkpoints if scene.detail else ()

    def key(self, item: Checkpoint) -> str:
        return str(item.step)

    def row(self, scene: Scene, item: Checkpoint, widths: Mapping[str, int]) -> Row:
        rate = item.bytes / 1e6 / item.seconds if item.seconds else None
        where = scene.status.name_of(item.peer) if scene.status and item.peer else ""
        return Row(
            self.key(item),
            {
                "step": [(f"{item.step:,}", "text")],
                "bytes": [(text.memory(item.bytes), "text")],
                "seconds": [(text.seconds(item.seconds), "text")],
                "rate": [(text.rate(rate), "dim")],
                "peer": [(where, "dim")],
                "path": [(item.path, "dim")],
            },
        )

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        return "checkpoints", self.counted(scene, box)

    def empty(self, scene: Scene) -> str:
        return "no checkpoint yet: W writes one" if scene.job else "no job"

    def records(self, scene: Scene) -> list[Record]:
        return [asdict(made) for made in self.items(scene)]


CHECKPOINTS = CheckpointsPane()
