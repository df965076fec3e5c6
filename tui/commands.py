"""The command palette: every key, every view and every theme by name."""

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui.keys import KEYS
from tui.palette import PALETTES
from tui.views.catalog import numbered

Entry = tuple[str, str, str]  # title, help, action
OWN = ("command_palette", "view(1)")  # listed otherwise


def entries() -> list[Entry]:
    """What the palette offers, in its order."""
    made = [
        (f"{view.title} ({digit})", view.summary, f"view({digit})") for digit, view in numbered()
    ]
    made += [
        (f"{key.label} ({key.shown})", key.help, key.action)
        for key in KEYS
        if key.shown and key.action not in OWN
    ]
    made += [
        (f"theme {palette.name.removeprefix('p2p-')}", palette.summary, f"paint('{palette.name}')")
        for palette in PALETTES
    ]
    return made


class Commands(Provider):
    async def discover(self) -> Hits:
        for title, told, action in entries():
            yield DiscoveryHit(title, lambda action=action: self.app.run_action(action), help=told)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for title, told, action in entries():
            score = max(matcher.match(title), matcher.match(told) / 2)
            if score > 0:
                yield Hit(
                    score,
                    matcher.highlight(title),
                    lambda action=action: self.app.run_action(action),
                    help=told,
                )
