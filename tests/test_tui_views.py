"""All views: drawn in every state at every size, as pictures that are kept, and as data."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.tui_pictures import FOLDER, SIZES, STATES, scene, told
from tui import export, moves
from tui.asks import NEEDS
from tui.commands import entries
from tui.frame import draw, focused_pane, places, whole
from tui.keys import KEYS
from tui.pane import Listing
from tui.plain import render
from tui.scene import line_width
from tui.views.catalog import VIEWS, numbered
from tui.views.names import NAMES

VIEW_NAMES = [view.name for view in VIEWS]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_list_of_views_is_sound() -> None:
    assert tuple(VIEW_NAMES) == NAMES
    assert [digit for digit, _ in numbered()] == [*range(1, 10), 0]
    assert all(view.needs <= NEEDS for view in VIEWS)
    assert all(view.title and view.short and view.summary for view in VIEWS)


@pytest.mark.parametrize("view", VIEW_NAMES)
def test_pictures(view: str) -> None:
    kept = (FOLDER / f"{view}.txt").read_text(encoding="utf-8")
    assert told(view) == kept, "not as kept; if it is meant: python -m tests.tui_pictures"


@pytest.mark.parametrize("view", VIEW_NAMES)
def test_panes_fill_the_body_and_nothing_overlaps(view: str) -> None:
    for width, height in (*SIZES, (80, 23), (100, 30), (240, 70)):
        for state in ("live", "empty", "64 peers", "nobody"):
            shown = replace(scene(state), view=view)
            cells = set()
            for framed in draw(shown, width, height - 3):
                assert len(framed.lines) == framed.area.height
                assert all(line_width(line) == framed.area.width for line, _ in framed.lines)
                for y in range(framed.area.y, framed.area.y + framed.area.height):
                    for x in (framed.area.x, framed.area.x + framed.area.width - 1):
                        assert (x, y) not in cells or framed.area.width == 1
                        cells.add((x, y))
            areas = [framed.area for framed in draw(shown, width, height - 3)]
            assert sum(area.width * area.height for area in areas) == width * (height - 3)


@pytest.mark.parametrize("view", VIEW_NAMES)
def test_every_list_can_be_walked_filtered_and_enlarged(view: str) -> None:
    size = (120, 37)
    for state in STATES:
        shown = replace(scene(state), view=view)
        for pane in {one.pane.id for one in places(shown, *size) if isinstance(one.pane, Listing)}:
            for step in (moves.last, moves.open_, moves.step_back):
                step(moves.point(shown, pane, None), size)
            at = moves.cursor(moves.point(shown, pane, None), size, 1)
            found = focused_pane(at, places(at, *size))
            assert found is not None
            assert found.id == pane
            keys = found.keys(at)
            assert found.follows or not keys or at.cursors[pane] in keys
            none = moves.filtered(at, "no row has this text")
            assert found.keys(none) == []
            large = moves.maximise(none)
            assert [one.pane.id for one in places(large, *size)] == [pane]
            whole(large, 120, 40)


@pytest.mark.parametrize("view", VIEW_NAMES)
def test_what_is_shown_can_be_exported(view: str) -> None:
    for state in STATES:
        shown = replace(scene(state), view=view)
        made = json.loads(export.as_json(shown, (120, 37)))
        assert made["view"] == view
        table = export.as_csv(shown, (120, 37))
        assert (table is None) == (not made["tables"])
        if table is not None:
            rows = [len(rows) for rows in made["tables"].values()]
            assert any(table.count("\n") >= count + 1 for count in rows)
        assert "\x1b" not in render(shown)


def test_ascii_views_are_ascii() -> None:
    for view in VIEW_NAMES:
        plain = replace(scene("live"), view=view, ascii_only=True)
        text = "\n".join(whole(plain, 200, 60))
        assert [c for c in text if not c.isascii() and c not in "–…·“”↓↑"] == []


def test_the_palette_offers_every_key_view_and_theme() -> None:
    titles = [title for title, _, _ in entries()]
    assert len(titles) == len(set(titles))
    for key in KEYS:
        assert (
            not key.shown
            or any(f"({key.shown})" in title for title in titles)
            or (key.action in ("command_palette", "view(1)"))
        )


def test_the_layers_of_escape() -> None:
    size = (120, 37)
    deep = moves.maximise(moves.filtered(replace(scene("live"), view="events"), "joined"))
    first = moves.step_back(deep, size)
    assert (first.wanted, first.maximised) == ("", True)
    second = moves.step_back(first, size)
    assert not second.maximised
    chosen = moves.go(second, size, 0)
    assert "events" in chosen.cursors
    third = moves.step_back(chosen, size)
    assert "events" not in third.cursors
    assert moves.step_back(third, size).view == "overview"
    assert moves.step_back(moves.step_back(third, size), size).view == "overview"
