"""What the keys that only look do to the scene. Pure: scene and the body's size in, scene out."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from tui.frame import focused_pane, listings, places
from tui.scene import CHARTS, LEVELS, SMOOTHINGS, Scene
from tui.views.catalog import VIEWS, numbered

T = TypeVar("T")
Size = tuple[int, int]
OPENS = {"peers": "peers", "jobs": "training", "events": "events", "alerts": "alerts"}


def view(scene: Scene, digit: int | None) -> Scene:
    """The view at this digit; a digit without one changes nothing."""
    found = next((told for at, told in numbered() if at == digit), None)
    return scene if found is None else replace(scene, view=found.name, maximised=False)


def pane(scene: Scene, size: Size, delta: int) -> Scene:
    """The keyboard to the next list of the view, or the one before."""
    plain = replace(scene, maximised=False)
    placed = places(plain, *size)
    found, now = listings(placed), focused_pane(plain, placed)
    if now is None:
        return scene
    after = found[(found.index(now) + delta) % len(found)]
    return replace(scene, focus={**scene.focus, scene.view: after.id})


def point(scene: Scene, pane_id: str, key: str | None) -> Scene:
    """The keyboard to this list, its cursor on this row."""
    focused = replace(scene, focus={**scene.focus, scene.view: pane_id})
    return focused if key is None else _cursor_on(focused, pane_id, key)


def cursor(scene: Scene, size: Size, delta: int) -> Scene:
    """Down or up in the list with the keyboard."""
    found = focused_pane(scene, places(scene, *size))
    if found is None:
        return scene
    keys = found.keys(scene)
    return go(scene, size, found.place(scene, keys) + delta)


def go(scene: Scene, size: Size, place: int) -> Scene:
    """The row at `place` of the list with the keyboard, held within it; -1 is the last."""
    found = focused_pane(scene, places(scene, *size))
    keys = found.keys(scene) if found is not None else []
    if found is None or not keys:
        return scene
    place = max(0, min(place, len(keys) - 1))
    if found.follows and place == len(keys) - 1:  # at the end: follow what comes
        return replace(scene, cursors=_without(scene.cursors, found.id))
    return _cursor_on(scene, found.id, keys[place])


def last(scene: Scene, size: Size) -> Scene:
    found = focused_pane(scene, places(scene, *size))
    return scene if found is None else go(scene, size, len(found.keys(scene)) - 1)


def open_(scene: Scene, size: Size) -> Scene:
    """The view about what is selected."""
    found = focused_pane(scene, places(scene, *size))
    target = OPENS.get(found.id) if found is not None else None
    if found is None or target is None or target == scene.view:
        return scene
    keys = found.keys(scene)
    if keys and not found.follows:
        scene = _cursor_on(scene, found.id, keys[found.place(scene, keys)])
    return replace(scene, view=target, maximised=False)


def step_back(scene: Scene, size: Size) -> Scene:
    """One layer: the filter, the large pane, the chosen event, the view; never out."""
    if scene.wanted:
        return filtered(scene, "")
    if scene.maximised:
        return replace(scene, maximised=False)
    found = focused_pane(scene, places(scene, *size))
    if found is not None and found.follows and found.id in scene.cursors:
        return replace(scene, cursors=_without(scene.cursors, found.id))
    return replace(scene, view=VIEWS[0].name)


def filtered(scene: Scene, wanted: str) -> Scene:
    return replace(scene, filters={**scene.filters, scene.view: wanted})


def chart(scene: Scene) -> Scene:
    return replace(scene, chart=_next(CHARTS, scene.chart))


def smooth(scene: Scene) -> Scene:
    return replace(scene, smoothing=_next(SMOOTHINGS, scene.smoothing))


def level(scene: Scene) -> Scene:
    return replace(scene, level=_next(LEVELS, scene.level))


def maximise(scene: Scene) -> Scene:
    return replace(scene, maximised=not scene.maximised)


SIMPLE: Mapping[str, Callable[[Scene], Scene]] = {
    "chart": chart,
    "smooth": smooth,
    "level": level,
    "maximise": maximise,
}


def _next(values: tuple[T, ...], now: T) -> T:
    return values[(values.index(now) + 1) % len(values)]


def _cursor_on(scene: Scene, pane_id: str, key: str) -> Scene:
    return replace(scene, cursors={**scene.cursors, pane_id: key})


def _without(cursors: Mapping[str, str], pane_id: str) -> Mapping[str, str]:
    return {name: key for name, key in cursors.items() if name != pane_id}
