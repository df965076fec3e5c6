"""The ring as a drawing."""

from tui import ringmap, text
from tui.pane import Box, Drawn, Pane
from tui.scene import Line, Scene


class RingPane(Pane):
    id = "ring"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        job = scene.job
        if job is None or job.is_final or not job.members:
            return "ring", [("idle", "dim")]
        flow: Line = [(f"{job.name} on {len(job.members)}", "dim")]
        flows = ringmap.flows(job, scene.told.latest)
        if flows:
            flow.append((f"  {text.memory(int(sum(flows.values())))}/s", "ok"))
        return "ring", flow

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        if scene.status is None:
            return []
        grid = ringmap.draw(
            *(scene.status, scene.job, scene.selection.peer, box.width, box.height),
            scene.ascii_only,
            ringmap.flows(scene.job, scene.told.latest) if scene.job else {},
        )
        return [(merged(row), "background") for row in grid.cells]


def merged(row: list[ringmap.Cell]) -> Line:
    """Neighbours of one tone in one span: a strip costs by its spans."""
    line: Line = []
    for character, tone in row:
        if line and line[-1][1] == tone:
            line[-1] = (line[-1][0] + character, tone)
        else:
            line.append((character, tone))
    return line


RING = RingPane()
