"""The shown job in words."""

from tui.pane import Box, Drawn, Pane, plain_lines
from tui.rows import detail_lines
from tui.scene import Line, Scene


class JobPane(Pane):
    id = "job"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        return (scene.job.name if scene.job else "job"), []

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        if scene.job is None:
            return plain_lines([[("no job", "faint")]])
        return plain_lines(detail_lines(scene, box.width))


JOB = JobPane()
