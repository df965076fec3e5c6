"""The two lines that tell what a demonstration does: what happens, and what to watch. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tui.scene import Line, Scene, both_ends
from tui.text import clean

STOP = "any key stops; the peers and their folder go with it"
STARTS = "starting the first cluster"


# Seconds that each of the news is to be read for, before the next one takes its place; when many
# wait, the caption must not stay behind what is seen.
READ_S = {"begins": 2.5, "caption": 2.0, "checked": 0.8, "ends": 2.0}
READABLE = (*READ_S, "fact")
WAITING_MAX = 8


def read_s(news: Mapping[str, Any], waiting: int) -> float:
    """How long it stays, while so many others wait."""
    return READ_S.get(str(news.get("news")), 0.0) / (1 if waiting < WAITING_MAX else 4)


@dataclass(frozen=True, slots=True)
class Caption:
    """What was told so far of the scenario that plays. `view` is the one worth watching now."""

    name: str = ""
    number: int = 0
    count: int = 0
    step: int = 0
    steps: int = 0
    says: str = STARTS
    watch: str = ""
    news: str = ""
    ok: bool = True
    view: str | None = None


def told(caption: Caption, news: Mapping[str, Any]) -> Caption:
    """With the next of the demonstration's news (p2p.scenarios.news); others change nothing."""
    match news.get("news"):
        case "begins":
            name, why = clean(str(news["name"])), clean(str(news["why"]))
            number, count = int(news["number"]), int(news["count"])
            return Caption(name, number, count, says=why)
        case "caption":
            return replace(
                caption,
                step=int(news["number"]),
                steps=int(news["count"]),
                says=clean(str(news["says"])),
                watch=clean(str(news["watch"])),
                view=news["view"],
                news="",
            )
        case "fact":
            return replace(caption, news=clean(str(news["text"])))
        case "checked":
            ok, text = bool(news["ok"]), clean(str(news["text"]))
            return replace(caption, ok=ok, watch="what must hold", says=text)
        case "ends":
            ok, text = bool(news["ok"]), clean(str(news["text"]))
            return replace(caption, ok=ok, says=text, watch="", news="the peers are stopped")
        case _:
            return caption


def first(caption: Caption, scene: Scene, width: int) -> Line:
    """What happens."""
    tone = "strong" if caption.ok else "bad"
    return both_ends([(" DEMO ", "accent"), (caption.says, tone)], [], width)


def second(caption: Caption, scene: Scene, width: int) -> Line:
    """What to watch, and what happened last; which scenario and step it is."""
    line: Line = [("      ", "text")]
    if caption.watch:
        line += [("watch: ", "dim"), (caption.watch, "accent")]
    if caption.news:
        arrow = scene.pick("›", ">") if caption.watch else ""
        line += [(f"  {arrow} ", "dim"), (caption.news, "text")]
    right: Line = []
    if caption.name:
        right += [("  ", "text"), (caption.name, "strong")]
        right.append((f" {caption.number}/{caption.count} ", "dim"))
    if caption.steps:
        right.append((f"  step {caption.step}/{caption.steps} ", "dim"))
    return both_ends(line, right, width)


def footer(caption: Caption, scene: Scene, width: int) -> Line:
    """In place of the keys, none of which does what it says."""
    return both_ends([(f" {STOP}", "warn")], [], width)
