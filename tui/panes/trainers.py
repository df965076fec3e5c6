"""A bar for every trainer of the shown job: where it stands, and which shards it has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tui import health, text
from tui.pane import Box, Record, Table
from tui.rows import badge, bar
from tui.scene import Line, Scene
from tui.table import Column, Row


@dataclass(frozen=True, slots=True)
class Seat:
    """`done` from 0 to 1; None where nothing is known."""

    peer: str
    name: str
    state: str
    step: int
    epoch: int
    done: float | None
    compute_s: float | None
    step_s: float | None
    barrier_s: float | None
    shards: tuple[int, int] | None


class TrainersPane(Table[Seat]):
    id = "trainers"
    word = "trainer"
    columns = (
        Column("state", "state", 9),
        Column("name", "trainer", 10, grow=1, width_max=24),
        Column("bar", "progress", 8, grow=2, width_max=50, rank=3),
        Column("step", "step", 9, "right"),
        Column("epoch", "epoch", 5, "right", rank=5),
        Column("compute_s", "compute", 8, "right", rank=4),
        Column("step_s", "step time", 9, "right", rank=4),
        Column("barrier_s", "barrier", 8, "right", rank=4),
        Column("shards", "shards", 8, "right", rank=1),
    )

    def all_items(self, scene: Scene) -> Sequence[Seat]:
        job, status = scene.job, scene.status
        if job is None or status is None:
            return ()
        shards = scene.told.shards
        rows = {row.peer: row for row in shards.rows} if shards and shards.job == job.id else {}
        seats = []
        for member in job.members:
            peer, latest = status.peer(member), scene.told.latest.get(member, {})

            def told(name: str, of: Mapping[str, float] = latest) -> float | None:
                return of.get(f"job.{job.id}.{name}")

            step = told("step")
            at = job.step if step is None else int(step)
            seats.append(
                Seat(
                    member,
                    status.name_of(member),
                    peer.state if peer else "",
                    at,
                    job.epoch,
                    min(1.0, at / job.steps_total) if job.steps_total else None,
                    told("compute_s"),
                    told("step_s"),
                    told("barrier_s"),
                    rows[member].shards if member in rows else None,
                )
            )
        return seats

    def key(self, item: Seat) -> str:
        return item.peer

    def row(self, scene: Scene, item: Seat, widths: Mapping[str, int]) -> Row:
        mark = health.peer_mark(item.state)
        first, last = item.shards or (0, 0)
        return Row(
            item.peer,
            {
                "state": [badge(mark, scene.ascii_only)],
                "name": [(item.name, "text")],
                "bar": bar(item.done, widths.get("bar", 0), scene.ascii_only, mark.tone),
                "step": [(text.count(item.step), "text")],
                "epoch": [(text.count(item.epoch), "dim")],
                "compute_s": [(text.seconds(item.compute_s), "text")],
                "step_s": [(text.seconds(item.step_s), "text")],
                "barrier_s": [(text.seconds(item.barrier_s), "text")],
                "shards": [(f"{first}–{last - 1}" if last > first else "–", "dim")],
            },
        )

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        return "trainers", self.counted(scene, box)

    def empty(self, scene: Scene) -> str:
        return "no job" if scene.job is None else f"{scene.job.name} has no trainers now"

    def records(self, scene: Scene) -> list[Record]:
        return [
            {
                "peer": seat.peer,
                "name": seat.name,
                "step": seat.step,
                "epoch": seat.epoch,
                "compute_s": seat.compute_s,
                "step_s": seat.step_s,
                "barrier_s": seat.barrier_s,
            }
            for seat in self.items(scene)
        ]


TRAINERS = TrainersPane()
