"""The ring and the shown job in words: panes without a cursor."""

from tui import ringmap
from tui.rows import detail_lines
from tui.scene import Line
from tui.widgets.pane import Pane


class RingPane(Pane):
    def title(self, width: int) -> tuple[str, Line]:
        job = self.scene.job
        if job is None or job.is_final or not job.members:
            return "ring", [("idle", "dim")]
        return "ring", [(f"{job.name} on {len(job.members)}", "dim")]

    def draw(self, width: int, height: int) -> list[tuple[Line, str]]:
        scene = self.scene
        if scene.status is None:
            return []
        grid = ringmap.draw(
            scene.status, scene.job, scene.selection.peer, width, height, scene.ascii_only
        )
        return [
            ([(character, str(tone)) for character, tone in row], "background")
            for row in grid.cells
        ]


class DetailPane(Pane):
    def title(self, width: int) -> tuple[str, Line]:
        job = self.scene.job
        return (job.name if job else "job"), []

    def draw(self, width: int, height: int) -> list[tuple[Line, str]]:
        if self.scene.job is None:
            return [([("no job", "faint")], "background")]
        return [(line, "background") for line in detail_lines(self.scene, width)]
