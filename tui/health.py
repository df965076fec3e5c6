"""Glyph, word and tone of every state: never colour alone, so that nobody has to tell hues apart.

A tone is a name the palette gives a colour to (tui/palette.py); without colour the glyph and the
word still say everything.
"""

from dataclasses import dataclass
from typing import Literal

from tui.snapshot import Link, Status

Tone = Literal["text", "dim", "faint", "ok", "warn", "bad", "accent", "strong"]
# A value is live below this many polling intervals and stale below the second number.
STALE_INTERVALS = 3
OFFLINE_INTERVALS = 10


@dataclass(frozen=True, slots=True)
class Mark:
    """How one state looks: `glyph` (or `plain` in ASCII), `word`, `tone`."""

    glyph: str
    plain: str
    word: str
    tone: Tone

    def icon(self, ascii_only: bool) -> str:
        return self.plain if ascii_only else self.glyph


PEER_MARKS = {
    "alive": Mark("●", "+", "alive", "ok"),
    "suspect": Mark("▲", "!", "suspect", "warn"),
    "dead": Mark("✖", "x", "dead", "bad"),
    "left": Mark("○", "o", "left", "dim"),
}
JOB_MARKS = {
    "queued": Mark("◌", "~", "queued", "dim"),
    "starting": Mark("◔", "s", "starting", "accent"),
    "running": Mark("●", "+", "running", "ok"),
    "recovering": Mark("▲", "!", "recovering", "warn"),
    "paused": Mark("◫", "=", "paused", "warn"),
    "finished": Mark("✔", "v", "finished", "ok"),
    "failed": Mark("✖", "x", "failed", "bad"),
    "cancelled": Mark("○", "o", "cancelled", "dim"),
}
ROLE_MARKS = {
    "leader": Mark("★", "*", "leader", "strong"),
    "voter": Mark("·", "-", "voter", "text"),
    "learner": Mark("◦", ".", "learner", "dim"),
}
EVENT_MARKS = {
    "info": Mark("·", "-", "info", "dim"),
    "warning": Mark("▲", "!", "warning", "warn"),
    "error": Mark("✖", "x", "error", "bad"),
    "critical": Mark("✖", "x", "critical", "bad"),
}
GRAVITIES = ("critical", "error", "warning", "info")
SCORE_GOOD, SCORE_FAIR = 90.0, 60.0
SELF_GLYPH, SELF_PLAIN = "◆", "@"


def peer_mark(state: str) -> Mark:
    return PEER_MARKS.get(state) or _unknown(state)


def job_mark(state: str) -> Mark:
    return JOB_MARKS.get(state) or _unknown(state)


def role_mark(role: str) -> Mark:
    return ROLE_MARKS.get(role) or _unknown(role)


def event_mark(severity: str) -> Mark:
    return EVENT_MARKS.get(severity) or _unknown(severity)


def gravity(severity: str) -> int:
    """0 is the gravest; what nobody has heard of is the least."""
    return GRAVITIES.index(severity) if severity in GRAVITIES else len(GRAVITIES)


def score_mark(score: float) -> Mark:
    """Of a health score from 0 to 100."""
    if score >= SCORE_GOOD:
        return Mark("●", "+", "healthy", "ok")
    return (
        Mark("▲", "!", "degraded", "warn") if score >= SCORE_FAIR else Mark("✖", "x", "ill", "bad")
    )


def link_mark(link: Link, age_s: float | None, interval_s: float) -> Mark:
    """live, stale, offline or connecting, from when the last answer came."""
    if link.received_s is None or age_s is None:
        return Mark("◌", "~", "connecting", "warn")
    if age_s >= OFFLINE_INTERVALS * interval_s:
        return Mark("✖", "x", "offline", "bad")
    if link.state != "live" or age_s >= STALE_INTERVALS * interval_s:
        return Mark("◌", "~", "stale", "warn")
    return Mark("●", "+", "live", "ok")


def voters(status: Status) -> tuple[int, int]:
    """(voters alive, voters). A peer that left votes no more."""
    voting = [peer for peer in status.peers if is_voter(peer.role) and peer.state != "left"]
    return sum(peer.state == "alive" for peer in voting), len(voting)


def is_voter(role: str) -> bool:
    return role in ("leader", "voter")


def majority(voter_count: int) -> int:
    return voter_count // 2 + 1


def _unknown(word: str) -> Mark:
    return Mark("?", "?", word or "unknown", "warn")
