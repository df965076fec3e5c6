"""From lines of (text, tone) to Textual's strips."""

from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui.palette import Palette
from tui.scene import Line, cut_line

BOLD = {"strong", "bad"}


@lru_cache(maxsize=512)
def style(palette: Palette, tone: str, background: str) -> Style:
    """The Rich style of a tone on one of the palette's backgrounds."""
    return Style(
        color=getattr(palette, tone), bgcolor=getattr(palette, background), bold=tone in BOLD
    )


def strip(line: Line, width: int, palette: Palette, background: str = "background") -> Strip:
    """A strip of exactly `width` cells."""
    segments = [
        Segment(text, style(palette, tone, background))
        for text, tone in cut_line(line, width)
        if text
    ]
    return Strip(segments, width)
