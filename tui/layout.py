"""How the screen is cut, as a pure function of its size and of what there is to show."""

from dataclasses import dataclass

WIDTH_MIN, HEIGHT_MIN = 80, 24
RING_WIDTH_MIN = 100  # narrower: the peers table alone, which has all of it in words
DETAIL_WIDTH_MIN = 36


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes in cells; every pane's height includes its title line. 0 = not shown.

    Ring beside peers over jobs; below them the shown job in words beside its curves; then events.
    """

    ring_width: int
    peers: int
    jobs: int
    middle: int
    events: int
    detail_width: int
    charts: int

    @property
    def top(self) -> int:
        return self.peers + self.jobs

    @property
    def height(self) -> int:
        return self.top + self.middle + self.events


def too_small(width: int, height: int) -> bool:
    return width < WIDTH_MIN or height < HEIGHT_MIN


def plan(width: int, height: int, peers: int, jobs: int) -> Layout:
    """Panes for a body of `width` × `height` cells (header, banner and footer not counted)."""
    ring_width = 0 if width < RING_WIDTH_MIN else max(36, min(60, width * 2 // 5 - 8))
    # One title, one column head, one line each; at least one line of data.
    peers_want, jobs_want = 2 + max(1, peers), 2 + max(1, jobs)
    spare = max(0, height - 21)  # what is left above the smallest useful screen
    if ring_width:
        top = max(min(20, 11 + spare // 4), min(peers_want + jobs_want, height // 2))
        peers_height = min(peers_want, top - min(jobs_want, 4))
        jobs_height = top - peers_height
    else:
        peers_height = min(peers_want, 5 + spare // 3)
        jobs_height = min(jobs_want, 4 + spare // 8)
    events = 4 + spare // 4
    middle = height - peers_height - jobs_height - events
    detail_width = max(DETAIL_WIDTH_MIN, min(48, width // 4))
    charts = 1 if width < 110 else 2 if width < 165 else 3
    return Layout(ring_width, peers_height, jobs_height, middle, events, detail_width, charts)
