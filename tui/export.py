"""What a view shows, as data: one table per pane, as JSON or CSV. Pure."""

import csv
import io
import json
from typing import Any

from tui.frame import focused_pane, places
from tui.pane import Record
from tui.scene import Scene
from tui.text import moment


def tables(scene: Scene, size: tuple[int, int]) -> dict[str, list[Record]]:
    """The rows of every pane that is shown, filtered as they are, by the pane's id."""
    made = {one.pane.id: one.pane.records(scene) for one in places(scene, *size)}
    return {name: rows for name, rows in made.items() if rows}


def as_json(scene: Scene, size: tuple[int, int]) -> str:
    link, status = scene.snapshot.link, scene.status
    told: dict[str, Any] = {
        "schema": 1,
        "view": scene.view,
        "cluster": status.cluster.id if status else None,
        "view_from": status.view_from if status else None,
        "received_at": link.received_at,
        "tables": tables(scene, size),
    }
    return json.dumps(told, indent=1, default=str) + "\n"


def as_csv(scene: Scene, size: tuple[int, int]) -> str | None:
    """The list with the keyboard, or else the first table; None if there is none."""
    found = tables(scene, size)
    focused = focused_pane(scene, places(scene, *size))
    name = focused.id if focused is not None and focused.id in found else next(iter(found), None)
    if name is None:
        return None
    rows = found[name]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows([{key: _flat(value) for key, value in row.items()} for row in rows])
    return text.getvalue()


def selected_text(scene: Scene, size: tuple[int, int]) -> str | None:
    """What is selected, as it could be pasted."""
    focused = focused_pane(scene, places(scene, *size))
    item = focused.selected(scene) if focused is not None else None
    if focused is None or item is None:
        return None
    return focused.copied(scene, item)


def file_name(scene: Scene, kind: str, now_s: float) -> str:
    stamp = moment(now_s).replace(" ", "-").replace(":", "")
    return f"p2ptui-{scene.view}-{stamp}.{kind}"


def _flat(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value
