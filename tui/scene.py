"""One moment of the screen, and the lines drawn from it.

A line is a list of spans: text and the palette's name for its colour. All drawing is pure, from a
Scene to lines; only tui/widgets turns lines into Textual's strips.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tui.chat import Chat
from tui.health import link_mark
from tui.palette import DARK, Palette
from tui.proposal import Selection
from tui.snapshot import Detail, Job, Snapshot, Status, shown_job
from tui.text import fit, width_of
from tui.told import Model, Told, shown_model

Span = tuple[str, str]
Line = list[Span]
CHARTS = ("loss", "accuracy", "throughput")
LEVELS = ("all", "warning", "error")
SMOOTHINGS = (0.0, 0.6, 0.9)


@dataclass(frozen=True, slots=True)
class Reel:
    """Where a replayed recording stands; `at` is the Unix time of what is shown."""

    position: int
    total: int
    at: float
    first_at: float
    last_at: float
    is_playing: bool


@dataclass(frozen=True, slots=True)
class Scene:
    """The newest snapshot and all that the user set. `now_s` is the feed's monotonic clock.

    `focus` has the pane with the keyboard by view, `cursors` the selected row's id by pane,
    `filters` the text that rows must contain by view.
    """

    snapshot: Snapshot = field(default_factory=Snapshot)
    palette: Palette = DARK
    ascii_only: bool = False
    read_only: bool = False
    frozen: bool = False
    interval_s: float = 1.0
    now_s: float = 0.0
    view: str = "overview"
    focus: Mapping[str, str] = field(default_factory=dict)
    cursors: Mapping[str, str] = field(default_factory=dict)
    filters: Mapping[str, str] = field(default_factory=dict)
    chart: str = "loss"
    smoothing: float = 0.0
    level: str = "all"
    maximised: bool = False
    chat: Chat = field(default_factory=Chat)
    reel: Reel | None = None

    @property
    def status(self) -> Status | None:
        return self.snapshot.status

    @property
    def told(self) -> Told:
        return self.snapshot.told

    @property
    def selection(self) -> Selection:
        """What is highlighted, even if no cursor was moved yet. A job only if it was chosen."""
        peer, peers = self.cursors.get("peers"), self.status.peers if self.status else ()
        if all(told.id != peer for told in peers):
            peer = peers[0].id if peers else None
        chosen = self.cursors
        return Selection(peer, chosen.get("jobs"), chosen.get("alerts"), chosen.get("models"))

    @property
    def job(self) -> Job | None:
        return shown_job(self.snapshot.status, self.cursors.get("jobs"))

    @property
    def model(self) -> Model | None:
        """The one that would be asked."""
        return shown_model(self.told, self.cursors.get("models"))

    @property
    def detail(self) -> Detail | None:
        job, detail = self.job, self.snapshot.detail
        return detail if job and detail and detail.job == job.id else None

    @property
    def wanted(self) -> str:
        """What rows must contain in this view, in small letters."""
        return self.filters.get(self.view, "").lower()

    @property
    def age_s(self) -> float | None:
        """Seconds since the shown data were true, None before the first answer."""
        received_s = self.snapshot.link.received_s
        if received_s is None or self.status is None:
            return None
        return max(0.0, self.now_s - received_s) + self.status.age

    @property
    def is_greyed(self) -> bool:
        """Old data are shown, but never as if they were true now."""
        mark = link_mark(self.snapshot.link, self.age_s, self.interval_s)
        return mark.word in ("stale", "offline")

    def pick(self, glyph: str, plain: str) -> str:
        return plain if self.ascii_only else glyph


def text_of(line: Line) -> str:
    return "".join(text for text, _ in line)


def line_width(line: Line) -> int:
    return sum(width_of(text) for text, _ in line)


def cut_line(line: Line, width: int) -> Line:
    """The line in exactly `width` cells, blanks added or the rest cut."""
    made: Line = []
    left = width
    for text, tone in line:
        if left <= 0:
            break
        size = width_of(text)
        made.append((text if size <= left else fit(text, left), tone))
        left -= min(size, left)
    if left > 0:
        made.append((" " * left, "text"))
    return made


def both_ends(left: Line, right: Line, width: int) -> Line:
    """`left` … `right` on one line; the left side is cut if both do not fit."""
    room = width - line_width(right)
    return cut_line([*cut_line(left, room), *right], width) if room > 0 else cut_line(left, width)


def greyed(line: Line) -> Line:
    return [(text, "faint" if tone == "faint" else "dim") for text, tone in line]
