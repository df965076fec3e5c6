"""The peers table and the jobs table."""

from tui import health
from tui.rows import JOB_COLUMNS, PEER_COLUMNS, job_row, peer_row
from tui.scene import Line
from tui.table import body, fit_columns, head
from tui.widgets.list_pane import ListPane


class PeersPane(ListPane):
    def ids(self) -> list[str]:
        return [peer.id for peer in self.scene.status.peers] if self.scene.status else []

    def title(self, width: int) -> tuple[str, Line]:
        status = self.scene.status
        if status is None:
            return "peers", []
        counts: Line = []
        for state in ("suspect", "dead", "left"):
            number = sum(peer.state == state for peer in status.peers)
            if number:
                counts += [(f"{number} {state}", health.peer_mark(state).tone), (", ", "dim")]
        return "peers", [*counts, *self.shown_of(self.size.height - 2, "peer")]

    def draw(self, width: int, height: int) -> list[tuple[Line, str]]:
        status = self.scene.status
        if status is None:
            return [([("no answer from a peer yet", "dim")], "background")]
        columns = fit_columns(PEER_COLUMNS, width)
        cut = self.scene.pick("…", "~")
        lines = [(head(columns), "background")]
        for i in self.window(height - 1):
            row = peer_row(status.peers[i], self.scene)
            lines.append((body(columns, row, cut), self.background(row.id)))
        return lines


class JobsPane(ListPane):
    def ids(self) -> list[str]:
        """Newest last; the shown job is selected until the user selects another."""
        return [job.id for job in self.scene.status.jobs] if self.scene.status else []

    def position(self) -> int:
        ids, job = self.ids(), self.scene.job
        if self.cursor in ids:
            return ids.index(self.cursor)
        return ids.index(job.id) if job is not None and job.id in ids else 0

    def background(self, row: str) -> str:
        selected = self.ids()[self.position()] == row
        return "cursor" if selected and self.has_focus else "panel" if selected else "background"

    def title(self, width: int) -> tuple[str, Line]:
        status = self.scene.status
        if status is None:
            return "jobs", []
        active = sum(not job.is_final for job in status.jobs)
        first: Line = [(f"{active} active, ", "dim")] if active else []
        return "jobs", [*first, *self.shown_of(self.size.height - 2, "job")]

    def draw(self, width: int, height: int) -> list[tuple[Line, str]]:
        status = self.scene.status
        if status is None:
            return []
        if not status.jobs:
            hint = "no jobs yet: S submits one, as does  p2pnode submit digits"
            return [([(hint, "dim")], "background")]
        columns = fit_columns(JOB_COLUMNS, width)
        bar_width = {column.key: size for column, size in columns}.get("bar", 0)
        cut = self.scene.pick("…", "~")
        lines = [(head(columns), "background")]
        for i in self.window(height - 1):
            row = job_row(status.jobs[i], self.scene, bar_width)
            lines.append((body(columns, row, cut), self.background(row.id)))
        return lines
