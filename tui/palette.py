"""Colours. The default is safe for colour-blind eyes: sky, yellow and vermillion of Okabe and Ito
(https://jfly.uni-koeln.de/color/) stay apart under deuteranopia and protanopia.

The screen draws by tone (tui/health.py); a theme is one more palette in PALETTES.
"""

from dataclasses import dataclass

from tui.health import Tone


@dataclass(frozen=True, slots=True)
class Palette:
    name: str
    summary: str
    is_dark: bool
    background: str
    panel: str
    text: str
    dim: str
    faint: str
    line: str
    strong: str
    ok: str
    warn: str
    bad: str
    accent: str
    loss: str
    accuracy: str
    throughput: str
    cursor: str

    def tone(self, tone: Tone) -> str:
        return str(getattr(self, tone))


DARK = Palette(
    name="p2p-dark",
    summary="dark; told apart by colour-blind eyes",
    is_dark=True,
    background="#0e1116",
    panel="#171c24",
    text="#c9d1d9",
    dim="#8b949e",
    faint="#565f6b",
    line="#30363d",
    strong="#ffffff",
    ok="#56b4e9",
    warn="#f0e442",
    bad="#e8682c",
    accent="#b89cf0",
    loss="#56b4e9",
    accuracy="#e6c15a",
    throughput="#b89cf0",
    cursor="#243447",
)
LIGHT = Palette(
    name="p2p-light",
    summary="light",
    is_dark=False,
    background="#fbfbf9",
    panel="#efefeb",
    text="#24292f",
    dim="#57606a",
    faint="#8c959f",
    line="#d0d7de",
    strong="#000000",
    ok="#0060a8",
    warn="#7a5c00",
    bad="#b83a00",
    accent="#6639ba",
    loss="#0060a8",
    accuracy="#8a6100",
    throughput="#6639ba",
    cursor="#dbe7f3",
)
CLEAR = Palette(
    name="p2p-clear",
    summary="black, high contrast; the colours of Okabe and Ito for colour-blind eyes",
    is_dark=True,
    background="#000000",
    panel="#101010",
    text="#f0f0f0",
    dim="#b4b4b4",
    faint="#7a7a7a",
    line="#4a4a4a",
    strong="#ffffff",
    ok="#56b4e9",
    warn="#f0e442",
    bad="#ff7433",
    accent="#cc9fd0",
    loss="#56b4e9",
    accuracy="#f0e442",
    throughput="#cc9fd0",
    cursor="#1f3f5f",
)
MONO = Palette(
    name="p2p-mono",
    summary="no colours: glyphs, words and weight only",
    is_dark=True,
    background="#000000",
    panel="#1a1a1a",
    text="#d0d0d0",
    dim="#9a9a9a",
    faint="#6a6a6a",
    line="#3a3a3a",
    strong="#ffffff",
    ok="#d0d0d0",
    warn="#ffffff",
    bad="#ffffff",
    accent="#d0d0d0",
    loss="#d0d0d0",
    accuracy="#d0d0d0",
    throughput="#d0d0d0",
    cursor="#303030",
)
PALETTES = (DARK, LIGHT, CLEAR, MONO)
BY_NAME = {palette.name: palette for palette in PALETTES}
