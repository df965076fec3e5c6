"""A view drawn: every pane's lines at their places. The whole screen as a function of the scene."""

from dataclasses import dataclass

from tui import bars
from tui.layout import HEIGHT_MIN, WIDTH_MIN, Area, Placed, too_small
from tui.pane import Box, Drawn, Listing, Pane
from tui.scene import Line, Scene, both_ends, cut_line, greyed, line_width, text_of
from tui.text import fit
from tui.views.catalog import view_of


@dataclass(frozen=True, slots=True)
class Framed:
    """A pane's lines, `area.height` of them, each `area.width` cells wide."""

    pane: Pane
    area: Area
    lines: tuple[Drawn, ...]


def places(scene: Scene, width: int, height: int) -> list[Placed]:
    """Where the panes of the scene's view are; a maximised one has all of it."""
    placed = view_of(scene).place(scene, Area(0, 0, width, height))
    if scene.maximised and placed:
        focused = focused_pane(scene, placed)
        shown = focused or placed[0].pane
        return [Placed(shown, Area(0, 0, width, height))]
    return placed


def listings(placed: list[Placed]) -> list[Listing[object]]:
    """Those that can have the keyboard."""
    return [one.pane for one in placed if isinstance(one.pane, Listing)]


def focused_pane(scene: Scene, placed: list[Placed]) -> Listing[object] | None:
    """The pane with the keyboard: the chosen one while it is there, else the first."""
    found = listings(placed)
    wanted = scene.focus.get(scene.view)
    return next((pane for pane in found if pane.id == wanted), found[0] if found else None)


def draw(scene: Scene, width: int, height: int) -> list[Framed]:
    """The body: all panes of the view."""
    placed = places(scene, width, height)
    focused = focused_pane(scene, placed)
    return [_framed(scene, one, one.pane is focused) for one in placed]


def _framed(scene: Scene, one: Placed, focused: bool) -> Framed:
    width, height = one.area.width, one.area.height
    if width < 4 or height < 1:
        return Framed(one.pane, one.area, ())
    titled = one.pane.has_title
    box = Box(width - 2, height - titled, focused)
    lines: list[Drawn] = []
    if titled:
        lines.append((_title_line(scene, one.pane, box, width), "background"))
    grey = scene.is_greyed
    for line, background in one.pane.draw(scene, box)[: box.height]:
        inner = cut_line(greyed(line) if grey else line, box.width)
        lines.append(([(" ", "text"), *inner, (" ", "text")], background))
    blank: Drawn = ([(" " * width, "text")], "background")
    return Framed(one.pane, one.area, (*lines, *[blank] * (height - len(lines))))


def _title_line(scene: Scene, pane: Pane, box: Box, width: int) -> Line:
    name, after = pane.title(scene, box)
    rule = scene.pick("─", "-")
    tone = "accent" if box.focused else "line"
    left: Line = [(rule, tone), (f" {name} ", "accent" if box.focused else "strong")]
    fill = width - line_width(left) - line_width(after) - 3
    if fill < 1 or not after:
        made = both_ends(left, [], width) if fill < 1 else left
        return cut_line([*made, (rule * max(0, width - line_width(made)), tone)], width)
    return cut_line([*left, (rule * fill, tone), (" ", "text"), *after, (f" {rule}", tone)], width)


def whole(scene: Scene, width: int, height: int) -> list[str]:
    """All lines of the screen as text: header, views, perhaps a banner, body, footer."""
    if too_small(width, height):
        lines = [too_small_text(width, height)]
        return [part.center(width).rstrip() for line in lines for part in line.split("\n")]
    banner = bars.banner(scene, width)
    top = [bars.header(scene, width), bars.tabs(scene, width)]
    made = [text_of(line) for line in top] + ([fit(banner, width)] if banner is not None else [])
    made += body_text(scene, width, height - len(made) - 1)
    return [line.rstrip() for line in [*made, text_of(bars.footer(scene, width, height))]]


def body_text(scene: Scene, width: int, height: int) -> list[str]:
    """The body as lines of text."""
    rows: list[list[tuple[int, str]]] = [[] for _ in range(height)]
    for framed in draw(scene, width, height):
        for i, (line, _) in enumerate(framed.lines):
            rows[framed.area.y + i].append((framed.area.x, text_of(line)))
    return ["".join(text for _, text in sorted(row)).rstrip() for row in rows]


def too_small_text(width: int, height: int) -> str:
    return f"p2ptui needs {WIDTH_MIN}x{HEIGHT_MIN}\nthis terminal is {width}x{height}"
