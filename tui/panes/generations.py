"""The generations of the shown job: when, why, and how long training stood still."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tui import text
from tui.pane import Box, Record, Table
from tui.scene import Line, Scene
from tui.snapshot import Generation
from tui.table import Column, Row

STALL_LONG_S = 1.0


class GenerationsPane(Table[Generation]):
    id = "generations"
    word = "generation"
    follows = True
    columns = (
        Column("number", "gen", 3, "right"),
        Column("step", "from step", 9, "right"),
        Column("members", "peers", 5, "right", rank=2),
        Column("stall", "stall", 7, "right"),
        Column("repeated", "again", 5, "right", rank=3),
        Column("method", "strategy", 12, rank=4, grow=1, width_max=24),
        Column("reason", "reason", 20, grow=4),
    )

    def all_items(self, scene: Scene) -> Sequence[Generation]:
        return scene.detail.generations if scene.detail else ()

    def key(self, item: Generation) -> str:
        return str(item.number)

    def row(self, scene: Scene, item: Generation, widths: Mapping[str, int]) -> Row:
        stall = item.stall_seconds
        tone = "dim" if stall is None else "warn" if stall >= STALL_LONG_S else "text"
        step = "–" if item.start_step is None else f"{item.start_step:,}"
        method = " ".join(part for part in (item.strategy, item.codec) if part)
        return Row(
            self.key(item),
            {
                "number": [(str(item.number), "text")],
                "step": [(step, "text")],
                "members": [(str(len(item.members)), "text")],
                "stall": [(text.seconds(stall), tone)],
                "repeated": [(str(item.steps_repeated), "dim")],
                "method": [(method, "dim")],
                "reason": [(item.reason, "text")],
            },
        )

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        stalls = [made.stall_seconds or 0.0 for made in self.all_items(scene)[1:]]
        told: Line = [(f"{text.seconds(sum(stalls))} of stalls, ", "dim")] if stalls else []
        return "generations", [*told, *self.counted(scene, box)]

    def empty(self, scene: Scene) -> str:
        return "no generation yet" if scene.job else "no job"

    def records(self, scene: Scene) -> list[Record]:
        return [{**asdict(made), "members": " ".join(made.members)} for made in self.items(scene)]


GENERATIONS = GenerationsPane()
