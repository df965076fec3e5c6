"""Overview: is it well, who is there, what runs, what happened."""

from tui.layout import Area, Placed, across, down, share
from tui.pane import Pane
from tui.panes.curves import CHOSEN
from tui.panes.events import EVENTS
from tui.panes.job import JOB
from tui.panes.jobs import JOBS
from tui.panes.peers import PEERS
from tui.panes.ring import RING
from tui.panes.summary import SUMMARY
from tui.scene import Scene
from tui.views.view import View

RING_WIDTH_MIN = 100  # narrower: the peers table alone, which has all of it in words
DETAIL_WIDTH_MIN = 36


def place(scene: Scene, area: Area) -> list[Placed]:
    """Ring beside peers over jobs; below them the shown job beside its curves; then events."""
    status = scene.status
    # One title, one column head, one line each; at least one line of data.
    peers_want = 2 + max(1, len(status.peers) if status else 0)
    jobs_want = 2 + max(1, len(status.jobs) if status else 0)
    summary = SUMMARY.height(scene)
    height = area.height - summary
    spare = max(0, height - 20)  # what is left above the smallest useful screen
    events = min(3 + spare // 4, 12) + (height >= 19)
    if area.width >= RING_WIDTH_MIN:
        top = max(min(20, 11 + spare // 4), min(peers_want + jobs_want, height // 2))
        jobs = share(3, jobs_want, max(4, top - peers_want))
    else:
        peers = min(peers_want, 5 + spare // 3)
        jobs = min(jobs_want, 4 + spare // 8)
        top = peers + jobs
    ring_width = share(36, area.width * 2 // 5 - 8, 60)

    def lists(part: Area) -> list[Placed]:
        return down(part, (PEERS, 0), (JOBS, jobs))

    def upper(part: Area) -> list[Placed]:
        if area.width < RING_WIDTH_MIN:
            return lists(part)
        return across(part, (RING, ring_width), (lists, 0))

    def middle(part: Area) -> list[Placed]:
        shown: list[Pane] = list(CHOSEN[: 1 if part.width < 110 else 2 if part.width < 165 else 3])
        detail = share(DETAIL_WIDTH_MIN, part.width // 4, 48)
        return across(part, (JOB, detail), *((chart, 0) for chart in shown))

    return down(area, (SUMMARY, summary), (upper, top), (middle, 0), (EVENTS, events))


VIEW = View(
    name="overview",
    title="Overview",
    short="Over",
    summary="health, leader, ring, jobs and events at a glance",
    place=place,
    needs=frozenset({"job", "alerts", "health", "insights", "latest"}),
)
