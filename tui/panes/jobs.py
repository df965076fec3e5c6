"""The jobs table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tui.pane import Box, Record, Table
from tui.rows import JOB_COLUMNS, job_row
from tui.scene import Line, Scene
from tui.snapshot import Job
from tui.table import Row


class JobsPane(Table[Job]):
    """Newest last; the shown job is selected until the user selects another."""

    id = "jobs"
    word = "job"
    columns = JOB_COLUMNS

    def all_items(self, scene: Scene) -> Sequence[Job]:
        return scene.status.jobs if scene.status else ()

    def key(self, item: Job) -> str:
        return item.id

    def row(self, scene: Scene, item: Job, widths: Mapping[str, int]) -> Row:
        return job_row(item, scene, widths.get("bar", 0))

    def searched(self, scene: Scene, item: Job) -> str:
        return " ".join((item.id, item.name, item.task, item.state, item.reason, item.strategy))

    def place(self, scene: Scene, keys: Sequence[str]) -> int:
        job = scene.job
        return keys.index(job.id) if job is not None and job.id in keys else 0

    def empty(self, scene: Scene) -> str:
        if scene.status is None:
            return "no answer from a peer yet"
        return "no jobs yet: S submits one, as does  p2pnode submit digits"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        if scene.status is None:
            return "jobs", []
        active = sum(not job.is_final for job in scene.status.jobs)
        first: Line = [(f"{active} active, ", "dim")] if active else []
        return "jobs", [*first, *self.counted(scene, box)]

    def records(self, scene: Scene) -> list[Record]:
        return [{**asdict(job), "members": " ".join(job.members)} for job in self.items(scene)]


JOBS = JobsPane()
