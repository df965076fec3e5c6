"""The ring as a drawing: peers on an ellipse, the working ring as a line between its members.

Pure: a grid of (character, tone). The order around the ring is the order of the peers' ids, which
is the order gradients travel in; the arrow says which way.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tui import health
from tui.curve import Canvas
from tui.health import Tone
from tui.snapshot import Job, Peer, Status
from tui.text import fit, memory, width_of

Cell = tuple[str, Tone]
ON_RING_MAX = 14
LABEL_WIDTH = 14
BLANK: Cell = (" ", "text")
_DRAWN = {*map(chr, range(0x2800, 0x2900)), *"▶◀▼▲><v^·.:'"}  # what lines and arrows are made of


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer's glyph is, in cells."""

    peer: Peer
    x: int
    y: int


class Grid:
    """Characters with tones; text outside is cut."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.cells: list[list[Cell]] = [[BLANK] * width for _ in range(height)]

    def put(self, x: int, y: int, text: str, tone: Tone) -> None:
        if not 0 <= y < self.height:
            return
        for character in text:
            size = width_of(character)
            if size and x >= 0 and x + size <= self.width:
                self.cells[y][x] = (character, tone)
                if size == 2:  # the second half of a wide character takes no character
                    self.cells[y][x + 1] = ("", tone)
            x += size

    def has_words(self, x: int, y: int, width: int) -> bool:
        """Whether there is more than the ring's own lines in these cells."""
        row = self.cells[y] if 0 <= y < self.height else []
        return any(
            character.strip() and not (tone in ("faint", "ok") and character in _DRAWN)
            for character, tone in row[x : x + width]
        )

    def text(self) -> list[str]:
        return ["".join(character for character, _ in row) for row in self.cells]


def has_two_lines(peers: int, width: int) -> bool:
    """Is there room for role and state below every name? Else the glyph and the table say it."""
    return peers <= 3 or (peers <= 6 and width >= 40)


def places(peers: tuple[Peer, ...], width: int, height: int) -> list[Place]:
    """Clockwise from the top, on the largest ellipse that leaves room for the labels."""
    two = has_two_lines(len(peers), width)
    angles = [2 * math.pi * i / len(peers) - math.pi / 2 for i in range(len(peers))]
    across = _stretched([math.cos(angle) for angle in angles])
    down = _stretched([math.sin(angle) for angle in angles])
    margin = LABEL_WIDTH / 2 + 1
    bottom = height - (2 if two else 1)
    return [
        Place(peer, round(margin + (width - 2 * margin) * x), round(bottom * y))
        for peer, x, y in zip(peers, across, down, strict=True)
    ]


def _stretched(values: list[float]) -> list[float]:
    """The values moved and scaled to 0…1, so that a triangle fills its box; all alike: 0.5."""
    low, high = min(values), max(values)
    if high - low < 1e-6:
        return [0.5 for _ in values]
    return [(value - low) / (high - low) for value in values]


def draw(
    status: Status,
    job: Job | None,
    selected: str | None,
    width: int,
    height: int,
    ascii_only: bool = False,
    flows: Mapping[str, float] | None = None,
) -> Grid:
    """The whole drawing; with too many peers or too little room, a grid of names instead.

    `flows`: bytes per second that each trainer gives to others.
    """
    grid = Grid(width, height)
    peers = tuple(peer for peer in status.peers if peer.state != "left")
    if not peers:
        return grid
    if len(peers) > ON_RING_MAX or height < 7 or len(peers) * 2 > height * 2 + 4:
        _list(grid, status, peers, selected, ascii_only)
        return grid
    spots = places(peers, width, height)
    two = has_two_lines(len(peers), width)
    members = set(job.members) if job is not None and not job.is_final else set()
    _lines(grid, spots, members, ascii_only)
    for spot in spots:
        _label(grid, spot, status, selected, two, ascii_only)
    _centre(grid, status, job, round(sum(spot.y for spot in spots) / len(spots)))
    _amounts(grid, [spot for spot in spots if spot.peer.id in members], flows or {})
    return grid


def flows(job: Job, latest: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """By trainer, the bytes per second that it gives to others, as far as peers tell."""
    name = f"job.{job.id}.wire_bytes_per_s"
    told = {peer: latest.get(peer, {}).get(name) for peer in job.members}
    return {peer: value for peer, value in told.items() if value}


def _amounts(grid: Grid, training: list[Place], flows: Mapping[str, float]) -> None:
    """What flows beside the arrow on which it leaves, where there is room for it."""
    if len(training) < 3:
        return
    for a, b in zip(training, training[1:] + training[:1], strict=True):
        if a.peer.id not in flows:
            continue
        told = f"{memory(int(flows[a.peer.id]))}/s"
        x, y = (a.x + b.x) // 2, (a.y + b.y) // 2
        for at in (x + 2, x - 1 - len(told)):
            if 0 <= at <= grid.width - len(told) and not grid.has_words(at - 1, y, len(told) + 2):
                grid.put(at, y, told, "dim")
                break


def _lines(grid: Grid, spots: list[Place], members: set[str], ascii_only: bool) -> None:
    """A faint line through all, and a bright one with arrows through those that train."""
    training = [spot for spot in spots if spot.peer.id in members]
    for ring, tone in ((spots, "faint"), (training, "ok")):
        if len(ring) < 2:
            continue
        canvas = Canvas(grid.width, grid.height)
        pairs = list(zip(ring, ring[1:] + ring[:1], strict=True))
        for a, b in pairs if len(ring) > 2 else pairs[:1]:
            canvas.line(2 * a.x, 4 * a.y + 2, 2 * b.x, 4 * b.y + 2)
        for y in range(grid.height):
            for x in range(grid.width):
                character = canvas.cell(x, y, ascii_only)
                if character != " ":
                    grid.put(x, y, character, "ok" if tone == "ok" else "faint")
        if tone == "ok" and len(ring) > 2:
            for a, b in pairs:
                _arrow(grid, a, b, ascii_only)


def _arrow(grid: Grid, a: Place, b: Place, ascii_only: bool) -> None:
    across, down = b.x - a.x, 2 * (b.y - a.y)  # a cell is about twice as high as wide
    if abs(across) >= abs(down):
        glyph = (">" if across > 0 else "<") if ascii_only else ("▶" if across > 0 else "◀")
    else:
        glyph = ("v" if down > 0 else "^") if ascii_only else ("▼" if down > 0 else "▲")
    grid.put((a.x + b.x) // 2, (a.y + b.y) // 2, glyph, "ok")


def _centre(grid: Grid, status: Status, job: Job | None, middle: int) -> None:
    alive, total = health.voters(status)
    lines: list[tuple[str, Tone]] = [(f"term {status.cluster.term}", "dim")]
    if status.cluster.quorum:
        lines.append((f"quorum {alive}/{total}", "text"))
    else:
        lines.append((f"NO QUORUM {alive}/{total}", "bad"))
    if job is not None and job.generation:
        lines.append((f"generation {job.generation}", "dim"))
    top = middle - len(lines) // 2
    for i, (line, tone) in enumerate(lines):
        text = f" {line} "
        x = (grid.width - len(text)) // 2
        if not grid.has_words(x, top + i, len(text)):
            grid.put(x, top + i, text, tone)


def _label(
    grid: Grid, spot: Place, status: Status, selected: str | None, two: bool, ascii_only: bool
) -> None:
    peer = spot.peer
    mark = health.peer_mark(peer.state)
    star = health.role_mark("leader").icon(ascii_only) if peer.role == "leader" else ""
    here = health.SELF_PLAIN if ascii_only else health.SELF_GLYPH
    signs = star + (here if peer.id == status.view_from else "")
    room = LABEL_WIDTH - 4 - len(signs)
    cut = "~" if ascii_only else "…"
    name = peer.name if width_of(peer.name) <= room else fit(peer.name, room, cut=cut)
    text = f" {mark.icon(ascii_only)} {name}{' ' * bool(signs)}{signs} "
    x = min(max(0, spot.x - width_of(text) // 2), grid.width - width_of(text))
    grid.put(x, spot.y, text, "strong" if peer.id == selected else "text")
    grid.put(x + 1, spot.y, mark.icon(ascii_only), mark.tone)
    if peer.id == status.view_from:
        grid.put(x + width_of(text) - 2, spot.y, here, "accent")
    if two:
        words = f" {peer.role} {mark.word} "
        x = min(max(0, spot.x - len(words) // 2), grid.width - len(words))
        grid.put(x, spot.y + 1, words, "dim")
        grid.put(x + 2 + len(peer.role), spot.y + 1, mark.word, mark.tone)


def _list(
    grid: Grid,
    status: Status,
    peers: tuple[Peer, ...],
    selected: str | None,
    ascii_only: bool,
) -> None:
    column_width = LABEL_WIDTH + 4
    columns = max(1, grid.width // column_width)
    for i, peer in enumerate(peers[: columns * grid.height]):
        mark = health.peer_mark(peer.state)
        x, y = (i % columns) * column_width, i // columns
        star = health.role_mark("leader").icon(ascii_only) if peer.role == "leader" else " "
        grid.put(x, y, mark.icon(ascii_only), mark.tone)
        name = fit(peer.name, column_width - 5).rstrip()
        grid.put(x + 2, y, f"{name} {star}", "strong" if peer.id == selected else "text")
