"""A view as plain text, for `--once` and for pipes: the same panes, no escapes."""

from tui import bars, health, text
from tui.frame import body_text
from tui.scene import Scene

HEIGHT_MIN = 30
EVENTS_SHOWN = 10


def render(scene: Scene, width: int = 120) -> str:
    """Two lines about the cluster, then the view, as high as its lists are long."""
    status = scene.status
    if status is None:
        return "no data"
    cluster = status.cluster
    alive, total = health.voters(status)
    quorum = "quorum" if cluster.quorum else "NO QUORUM"
    head = [
        f"cluster {cluster.name} ({cluster.id})  leader {status.name_of(cluster.leader)}  "
        f"term {cluster.term}  {quorum} {alive}/{total}  log {cluster.applied_index}",
        f"view from {status.name_of(status.view_from)} at {scene.snapshot.link.address}, "
        f"{text.seconds(status.age)} old",
    ]
    banner = bars.banner(scene, width)
    if banner is not None:
        head.append(banner.strip())
    rows = len(status.peers) + len(status.jobs) + min(EVENTS_SHOWN, len(scene.snapshot.events))
    body = body_text(scene, width, HEIGHT_MIN + 2 * rows)
    lines = [*head, "", *body]
    kept = [line for at, line in enumerate(lines) if line.strip() or (at and lines[at - 1].strip())]
    return "\n".join(kept).rstrip()
