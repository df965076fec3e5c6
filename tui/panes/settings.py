"""What this screen is attached to and how it is set, and the keys that change it."""

from tui import health, text
from tui.keys import GROUPS, KEYS
from tui.palette import PALETTES
from tui.pane import Box, Drawn, Pane, Record, plain_lines
from tui.scene import Line, Scene, cut_line

Pair = tuple[str, str, str]  # label, value, note


class ConnectionPane(Pane):
    id = "connection"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        mark = health.link_mark(scene.snapshot.link, scene.age_s, scene.interval_s)
        return "connection", [(f"{mark.icon(scene.ascii_only)} {mark.word}", mark.tone)]

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        return plain_lines([_line(pair) for pair in self.pairs(scene)])

    def pairs(self, scene: Scene) -> list[Pair]:
        link, status = scene.snapshot.link, scene.status
        pairs = [("attached", link.address or "nobody", ""), ("state", link.state, link.error)]
        if link.received_at is not None:
            pairs.append(("answered", text.moment(link.received_at), ""))
        if status is None:
            return pairs
        own = status.peer(status.view_from)
        versions = sorted({peer.version for peer in status.peers if peer.version})
        others = [
            peer.address
            for peer in status.peers
            if peer.state == "alive" and peer.address != link.address
        ]
        fails_over = ", ".join(others[:3]) or "nobody else"
        pairs += [
            ("peer", status.name_of(status.view_from), own.id if own else ""),
            ("cluster", status.cluster.name, status.cluster.id),
            ("versions", ", ".join(versions), "of the peers"),
            ("fails over", fails_over, "" if len(others) <= 3 else f"and {len(others) - 3} more"),
            ("log", f"{status.cluster.applied_index:,}", f"term {status.cluster.term}"),
        ]
        untold = sorted(scene.told.untold)
        if untold:
            pairs.append(("not told", ", ".join(untold), "by this peer"))
        return pairs

    def records(self, scene: Scene) -> list[Record]:
        return [
            {"name": label, "value": value, "note": note}
            for label, value, note in self.pairs(scene)
        ]


class ScreenPane(Pane):
    id = "screen"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        return "this screen", []

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        on = {True: "yes", False: "no"}
        themes = ", ".join(palette.name.removeprefix("p2p-") for palette in PALETTES)
        pairs: list[Pair] = [
            ("theme", scene.palette.name, f"t: {themes}"),
            ("refresh", f"{scene.interval_s:g} s", "+ faster, - slower, r now"),
            ("read-only", on[scene.read_only], "p2ptui --read-only"),
            ("frozen", on[scene.frozen], "space; the feed goes on"),
            ("glyphs", "ASCII" if scene.ascii_only else "Unicode", "p2ptui --ascii"),
            ("curve", scene.chart, "c"),
            ("smoothing", f"{scene.smoothing:g}", "w"),
            ("events", scene.level, "v"),
        ]
        for view, wanted in sorted(scene.filters.items()):
            if wanted:
                pairs.append(("filter", f"“{wanted}”", f"in {view}; esc there clears it"))
        return plain_lines([_line(pair) for pair in pairs])


class KeysPane(Pane):
    """The table of keys, in as many columns as there is room for: the last ones move about."""

    id = "keys"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        return "keys", [("? shows all", "dim")]

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        columns = max(1, box.width // 44)
        entries = self._entries(apart=True)
        if len(entries) > columns * box.height:
            entries = self._entries(apart=False)
        height = max(box.height, -(-len(entries) // columns))
        width = box.width // columns
        lines: list[Line] = []
        for y in range(min(box.height, height)):
            line: Line = []
            for entry in entries[y::height][:columns]:
                line += [*cut_line(entry, width - 1), (" ", "text")]
            lines.append(line)
        return plain_lines(lines)

    def _entries(self, apart: bool) -> list[Line]:
        """`apart`: an empty line after each group."""
        entries: list[Line] = []
        for group in GROUPS:
            entries.append([(group.upper(), "strong")])
            entries += [
                [(f"{key.shown:<8}", "accent"), (key.help, "text")]
                for key in KEYS
                if key.group == group and key.shown
            ]
            entries += [[]] * apart
        return entries


def _line(pair: Pair) -> Line:
    label, value, note = pair
    return [(f"{label:<11}", "faint"), (value, "text"), (f"  {note}" if note else "", "dim")]


CONNECTION = ConnectionPane()
SCREEN = ScreenPane()
KEYS_PANE = KeysPane()
