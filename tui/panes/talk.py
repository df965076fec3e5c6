"""What was asked and answered, and a line about what may be asked now."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

from tui import text
from tui.asking import cannot_send
from tui.chat import TURNS_MAX, Turn, told_options
from tui.health import Tone
from tui.pane import Box, Drawn, Listing, Pane, Record, plain_lines
from tui.scene import Line, Scene, Span, both_ends

WIDTH_MAX = 120  # of text that is read
Spans = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """One line of a turn."""

    key: str
    turn: Turn
    line: Spans


class TalkPane(Listing[Said]):
    """All lines of all turns, `width` cells wide; the newest are shown until one is chosen."""

    id = "talk"
    word = "line"
    follows = True

    def __init__(self, width: int) -> None:
        self._width = width

    def all_items(self, scene: Scene) -> Sequence[Said]:
        said: list[Said] = []
        for turn in scene.chat.turns:
            told, tone = _figures(turn, scene)
            below: list[Spans] = [((line, tone),) for line in text.fold(told, self._width)]
            lines = [*_lines(turn.prompt, turn.text, self._width), *below, ()]
            said += [Said(f"{turn.number}:{at}", turn, line) for at, line in enumerate(lines)]
        return said[:-1]  # nothing below the last one

    def key(self, item: Said) -> str:
        return item.key

    def line(self, scene: Scene, item: Said, width: int) -> Line:
        return list(item.line)

    def copied(self, scene: Scene, item: Said) -> str:
        return item.turn.text

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        turns = len(scene.chat.turns)
        return "conversation", [(text.plural(turns, "prompt"), "dim")] if turns else []

    def empty(self, scene: Scene) -> str:
        return "nothing was asked yet"

    def records(self, scene: Scene) -> list[Record]:
        return [
            {
                "prompt": turn.prompt,
                "model": turn.name,
                "text": turn.text,
                **(asdict(turn.end) if turn.end else {"problem": turn.problem}),
            }
            for turn in scene.chat.turns
        ]


@lru_cache(maxsize=2 * TURNS_MAX)
def _lines(prompt: str, answer: str, width: int) -> tuple[Spans, ...]:
    """The prompt and the answer, as far as it came."""
    asked = text.fold(prompt, width - 2)
    marks = ["> ", *["  "] * (len(asked) - 1)]
    said = text.fold(answer.rstrip("\n"), width) if answer else []
    return (
        *(((mark, "accent"), (line, "strong")) for mark, line in zip(marks, asked, strict=True)),
        *(((line, "text"),) for line in said),
    )


def _figures(turn: Turn, scene: Scene) -> tuple[str, Tone]:
    """Who answered, how fast; or why nobody did; or how long it takes by now."""
    end = turn.end
    if turn.problem:
        return turn.problem, "bad"
    if end is not None:
        speed = f"{text.rate(end.tokens / end.seconds)} tokens/s" if end.seconds > 0 else ""
        first = f"first after {text.seconds(end.first_s)}" if end.first_s is not None else ""
        times = "once" if end.moves == 1 else f"{end.moves} times"
        words = [
            f"{turn.name} on {end.peer}, replica {end.replica}" if end.peer else turn.name,
            f"{text.plural(end.tokens, 'token')} in {text.seconds(end.seconds)}",
            *(told for told in (speed, first) if told),
            end.reason,
            f"seed {end.seed}",
        ]
        if end.moves:
            words.append(f"gone on elsewhere {times}")
        return f"[{', '.join(words)}]", "warn" if end.moves else "dim"
    if turn.stopped:
        return "[stopped]", "warn"
    took = f"{max(0.0, scene.now_s - turn.asked_s):.0f} s"
    where = f" on {turn.peer}" if turn.peer else ""
    told = f"{text.plural(turn.tokens, 'token')} by now" if turn.tokens else "no token yet"
    return f"[{turn.name}{where}: {told}, {took}; esc stops it]", "accent"


class AskingPane(Pane):
    """What enter would do."""

    id = "asking"
    has_title = False

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        why, model = cannot_send(scene), scene.model
        if why is not None or model is None:
            return plain_lines([[(why or "", "warn")]])
        line: Line = [("enter", "accent"), (f" asks {model.name}", "text")]
        if not model.replicas:
            line.append((f", which is {model.state}: {model.reason or 'it waits'}", "warn"))
        else:
            options = told_options(scene.chat, scene.read_only)
            line.append((f"  {options}", "dim"))
        keys: Line = [
            *(("  o", "accent"), (" options", "text")),
            *(("  n", "accent"), (" afresh", "text")),
        ]
        return plain_lines([both_ends(line, keys, box.width)])


@lru_cache(maxsize=16)
def talk(width: int) -> TalkPane:
    """The pane for an area of this width, without its margins."""
    return TalkPane(max(20, min(width, WIDTH_MAX)))


ASKING = AskingPane()
