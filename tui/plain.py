"""The screen as plain text, for `--once` and for pipes: the same rows, no escapes."""

from tui import health, text
from tui.rows import JOB_COLUMNS, PEER_COLUMNS, event_line, job_row, peer_row
from tui.scene import Scene, text_of
from tui.table import Column, Row, body, fit_columns, head

EVENTS_SHOWN = 10


def render(scene: Scene, width: int = 120) -> str:
    """Cluster, peers, jobs and the last events; lines have no trailing blanks."""
    status = scene.status
    if status is None:
        return "no data"
    cluster = status.cluster
    alive, total = health.voters(status)
    quorum = "quorum" if cluster.quorum else "NO QUORUM"
    lines = [
        f"cluster {cluster.name} ({cluster.id})  leader {status.name_of(cluster.leader)}  "
        f"term {cluster.term}  {quorum} {alive}/{total}  log {cluster.applied_index}",
        f"view from {status.name_of(status.view_from)} at {scene.snapshot.link.address}, "
        f"{text.seconds(status.age)} old",
        "",
        *_table(PEER_COLUMNS, [peer_row(peer, scene) for peer in status.peers], width, scene),
        "",
    ]
    if status.jobs:
        bar_width = {c.key: w for c, w in fit_columns(JOB_COLUMNS, width)}.get("bar", 0)
        jobs = [job_row(job, scene, bar_width) for job in status.jobs]
        lines += _table(JOB_COLUMNS, jobs, width, scene)
        lines += [f"  {job.name}: {job.reason}" for job in status.jobs if job.reason]
    else:
        lines.append("no jobs")
    if scene.snapshot.events:
        lines.append("")
        last = scene.snapshot.events[-EVENTS_SHOWN:]
        lines += [text_of(event_line(event, scene)) for event in last]
    return "\n".join(line.rstrip() for line in lines)


def _table(columns: tuple[Column, ...], rows: list[Row], width: int, scene: Scene) -> list[str]:
    fitted = fit_columns(columns, width)
    cut = scene.pick("…", "~")
    return [text_of(head(fitted)), *(text_of(body(fitted, row, cut)) for row in rows)]
