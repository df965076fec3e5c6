"""The events, newest at the bottom, and the selected one in full."""

from collections.abc import Sequence
from dataclasses import asdict

from tui import text
from tui.health import event_mark
from tui.pane import Box, Drawn, Listing, Pane, Record, plain_lines
from tui.rows import badge, event_line
from tui.scene import LEVELS, Line, Scene
from tui.snapshot import Event

LEVEL_OF = {"info": 0, "warning": 1, "error": 2, "critical": 2}
BAD = ("error", "critical")


class EventsPane(Listing[Event]):
    """It follows what comes until the user scrolls up."""

    id = "events"
    word = "event"
    follows = True

    def all_items(self, scene: Scene) -> Sequence[Event]:
        return scene.snapshot.events

    def items(self, scene: Scene) -> Sequence[Event]:
        least = LEVELS.index(scene.level)
        found = super().items(scene)
        if not least:
            return found
        return [event for event in found if LEVEL_OF.get(event.severity, 0) >= least]

    def key(self, item: Event) -> str:
        return str(item.index)

    def line(self, scene: Scene, item: Event, width: int) -> Line:
        return event_line(item, scene)

    def searched(self, scene: Scene, item: Event) -> str:
        status = scene.status
        who = status.name_of(item.peer) if status and item.peer else ""
        return f"{item.text} {item.kind} {item.severity} {who} {item.peer} {item.job}"

    def empty(self, scene: Scene) -> str:
        if scene.level != "all" and scene.snapshot.events:
            return f"no event is a {scene.level} or worse: v shows all"
        return "nothing has happened yet"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        after = self.counted(scene, box)
        bad = sum(event.severity in BAD for event in scene.snapshot.events)
        if bad:
            after = [(f"{bad} error{'s' * (bad != 1)}", "bad"), (", ", "dim"), *after]
        if scene.level != "all":
            after = [(f"{scene.level} and worse", "warn"), (", ", "dim"), *after]
        name = "events"
        if box.focused and self.id not in scene.cursors:
            name = "events, following"
        return name, after

    def records(self, scene: Scene) -> list[Record]:
        return [asdict(event) for event in self.items(scene)]


class EventPane(Pane):
    """The selected event, or the newest, with all its words."""

    id = "event"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        return "event", []

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        event = EVENTS.selected(scene)
        if event is None:
            return plain_lines([[("nothing selected", "faint")]])
        name = scene.status.name_of if scene.status else str
        about = [("kind", event.kind), ("peer", name(event.peer) if event.peer else "")]
        about.append(("job", event.job or ""))
        first: Line = [
            badge(event_mark(event.severity), scene.ascii_only),
            (f"  {text.moment(event.at)}", "dim"),
        ]
        for label, value in about:
            if value:
                first += [(f"  {label} ", "faint"), (value, "text")]
        words = event.text or event.kind
        return plain_lines([first, *([(line, "text")] for line in text.wrap(words, box.width))])


EVENTS = EventsPane()
EVENT = EventPane()
