"""Datasets, who computes which samples of the current step, and samples as pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from p2p.verbs.pictures import RAMP
from tui import text
from tui.pane import Box, Drawn, Pane, Record, Table, plain_lines, untold
from tui.scene import Line, Scene, line_width
from tui.table import Column, Row
from tui.told import Dataset, PreviewRow, ShardRow

PICTURE_GAP = 3
SHADES = str.maketrans(RAMP, " ░░▒▒▓▓███")  # the same ten steps, denser than letters


class DatasetsPane(Table[Dataset]):
    id = "datasets"
    word = "dataset"
    columns = (
        Column("name", "dataset", 12, grow=2, width_max=28),
        Column("format", "format", 8, rank=2),
        Column("samples", "samples", 9, "right"),
        Column("bytes", "size", 6, "right", rank=1),
        Column("files", "files", 5, "right", rank=4),
        Column("here", "this peer", 12, grow=2, width_max=40),
        Column("content", "content", 12, rank=3),
        Column("path", "path", 16, rank=5, grow=2),
    )

    def all_items(self, scene: Scene) -> Sequence[Dataset]:
        return scene.told.datasets or ()

    def key(self, item: Dataset) -> str:
        return item.name

    def row(self, scene: Scene, item: Dataset, widths: Mapping[str, int]) -> Row:
        tone = {"verified": "ok", "absent": "dim", "fetching": "warn", "checking": "warn"}
        return Row(
            item.name,
            {
                "name": [(item.name, "text")],
                "format": [(item.format, "dim")],
                "samples": [(text.count(item.samples), "text")],
                "bytes": [(text.memory(item.bytes), "text")],
                "files": [(str(item.files), "dim")],
                "here": [(item.here, tone.get(item.here, "bad"))],
                "content": [(text.short_hash(item.content), "dim")],
                "path": [(item.path, "dim")],
            },
        )

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        return "datasets", self.counted(scene, box)

    def empty(self, scene: Scene) -> str:
        if scene.told.datasets is None:
            return untold(scene, "data")
        return "none yet: p2pnode data register NAME PATH makes one known"

    def records(self, scene: Scene) -> list[Record]:
        return [asdict(dataset) for dataset in self.items(scene)]


class ShardsPane(Table[ShardRow]):
    id = "shards"
    word = "trainer"
    columns = (
        Column("name", "trainer", 10, grow=1, width_max=20),
        Column("shards", "shards", 9, "right"),
        Column("samples", "samples of the step", 19, "right", rank=1),
        Column("count", "count", 6, "right"),
        Column("share", "share", 10, grow=2, rank=2, width_max=40),
    )

    def all_items(self, scene: Scene) -> Sequence[ShardRow]:
        shards, job = scene.told.shards, scene.job
        return shards.rows if shards is not None and job and shards.job == job.id else ()

    def key(self, item: ShardRow) -> str:
        return item.peer

    def row(self, scene: Scene, item: ShardRow, widths: Mapping[str, int]) -> Row:
        shards = scene.told.shards
        total = max(1, shards.shards if shards else 1)
        (first, last), (low, high) = item.shards, item.samples
        width = widths.get("share", 0)
        before, own = round(width * first / total), round(width * (last - first) / total)
        full, rest = scene.pick("━", "#"), scene.pick("─", ".")
        return Row(
            item.peer,
            {
                "name": [(item.name, "text")],
                "shards": [(f"{first}–{last - 1}" if last > first else "none", "text")],
                "samples": [(f"{low:,}–{high - 1:,}" if high > low else "none", "dim")],
                "count": [(f"{high - low:,}", "text")],
                "share": [
                    (rest * before, "line"),
                    (full * own, "ok"),
                    (rest * max(0, width - before - own), "line"),
                ],
            },
        )

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        shards, job = scene.told.shards, scene.job
        if shards is None or job is None or shards.job != job.id:
            return "shards", []
        told = f"step {shards.step:,} of epoch {shards.epoch}, {shards.train_samples:,} samples"
        return f"shards of {job.name}", [(told, "dim")]

    def empty(self, scene: Scene) -> str:
        return "no job" if scene.job is None else untold(scene, "data_shards")

    def records(self, scene: Scene) -> list[Record]:
        return [
            {
                "peer": row.peer,
                "name": row.name,
                "first_shard": row.shards[0],
                "last_shard": row.shards[1],
                "first_sample": row.samples[0],
                "last_sample": row.samples[1],
            }
            for row in self.items(scene)
        ]


class PreviewPane(Pane):
    """The first samples of the selected dataset; what is a picture is drawn as one."""

    id = "preview"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        dataset = DATASETS.selected(scene)
        return f"samples of {dataset.name}" if dataset else "samples", []

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        dataset, preview = DATASETS.selected(scene), scene.told.preview
        if dataset is None:
            return plain_lines([[("no dataset is selected", "faint")]])
        if preview is None or preview.dataset != dataset.name:
            return plain_lines([[(untold(scene, "data_preview"), "faint")]])
        lines: list[Line] = []
        pictures = [row for row in preview.rows if row.picture]
        for start in _starts(pictures, box.width):
            lines += side_by_side(pictures[start[0] : start[1]], scene.ascii_only)
        for row in preview.rows:
            if not row.picture:
                lines.append([(f"{row.where}  ", "faint"), (row.words, "text")])
        return plain_lines(lines[: box.height])

    def records(self, scene: Scene) -> list[Record]:
        preview = scene.told.preview
        if preview is None:
            return []
        name = preview.dataset
        return [{"dataset": name, "where": row.where, "fields": row.words} for row in preview.rows]


def side_by_side(rows: Sequence[PreviewRow], ascii_only: bool) -> list[Line]:
    """Pictures in one row, the words of each above it."""
    height = max((len(row.picture) for row in rows), default=0)
    lines: list[Line] = []
    for y in range(-1, height):
        line: Line = []
        for row in rows:
            width = _width(row)
            shown = _label(row) if y < 0 else row.picture[y] if y < len(row.picture) else ""
            if y >= 0 and not ascii_only:
                shown = shown.translate(SHADES)
            line.append((text.fit(shown, width), "dim" if y < 0 else "text"))
            line.append((" " * PICTURE_GAP, "text"))
        lines.append(line)
    return [*lines, []] if line_width(lines[0]) else []


def _label(row: PreviewRow) -> str:
    return f"{row.where} {row.words}"


def _width(row: PreviewRow) -> int:
    return max(16, *(len(line) for line in row.picture))


def _starts(rows: Sequence[PreviewRow], width: int) -> list[tuple[int, int]]:
    """Where each line of pictures begins and ends: as many as fit beside each other."""
    made, start, used = [], 0, 0
    for at, row in enumerate(rows):
        if at > start and used + _width(row) > width:
            made.append((start, at))
            start, used = at, 0
        used += _width(row) + PICTURE_GAP
    return [*made, (start, len(rows))] if rows else []


DATASETS = DatasetsPane()
SHARDS = ShardsPane()
PREVIEW = PreviewPane()
