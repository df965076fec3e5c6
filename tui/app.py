"""The main screen. It holds what the user set and the newest snapshot; everything seen is drawn
from these two, and everything asked of the cluster goes through tui/steering.py.
"""

import asyncio
import gc
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.events import Resize
from textual.theme import Theme
from textual.widgets import Static

from tui import bars, health
from tui.commands import Commands
from tui.feed import Feed, Source
from tui.frame import too_small_text
from tui.giving_back import Signalled, takes_more
from tui.keys import KEYS
from tui.layout import too_small
from tui.looking import LookingApp
from tui.palette import MONO, PALETTES, Palette
from tui.scene import Scene
from tui.snapshot import Snapshot
from tui.tape import Replay
from tui.views.prompt import NAME as PROMPT
from tui.wanted import wants
from tui.widgets.asking import AskingInput
from tui.widgets.body import Bar, Body
from tui.widgets.filter import FilterInput

if TYPE_CHECKING:
    from rich.console import RenderableType

LOUD = ("critical", "error", "warning")  # alerts that are told in a toast


def textual_theme(palette: Palette) -> Theme:
    """Our palette in Textual's words, for what is styled by CSS: dialogs, banner, toasts."""
    return Theme(
        name=palette.name,
        primary=palette.ok,
        secondary=palette.accent,
        accent=palette.accent,
        warning=palette.warn,
        error=palette.bad,
        success=palette.ok,
        foreground=palette.text,
        background=palette.background,
        surface=palette.cursor,
        panel=palette.panel,
        dark=palette.is_dark,
        variables={"foreground-muted": palette.dim},
    )


class ClusterApp(LookingApp):
    """The screen of one cluster, seen through any one of its peers, or through a recording."""

    CSS_PATH = "style.tcss"
    TITLE = "p2ptui"
    COMMANDS: ClassVar = {Commands}
    BINDINGS: ClassVar = [
        # Not q: it is a letter where text is typed.
        Binding(name, key.action, key.label, show=False, priority=name in ("ctrl+c", "ctrl+q"))
        for key in KEYS
        for name in key.keys.split(",")
    ]

    def __init__(
        self,
        source: Source,
        interval_s: float = 1.0,
        read_only: bool = False,
        ascii_only: bool = False,
        view: str = "overview",
        replay: Replay | None = None,
        records: bool = False,
        expect_end: Callable[[int], None] = lambda code: None,
    ) -> None:
        super().__init__()
        self.animation_level = "none"  # over ssh every frame costs
        palette = MONO if "NO_COLOR" in os.environ else PALETTES[0]
        for known in PALETTES:
            self.register_theme(textual_theme(known))
        self.theme = palette.name
        self.scene = Scene(
            palette=palette,
            ascii_only=ascii_only,
            read_only=read_only or replay is not None,
            interval_s=interval_s,
            view=view,
            reel=replay.reel if replay is not None else None,
        )
        self.feed = Feed(source, self._arrived, interval_s)
        self.newest = Snapshot()
        self.replay, self._records = replay, records
        self._expect_end = expect_end
        self._owes_drawing = False

    def compose(self) -> ComposeResult:
        yield Bar("header")
        yield Bar("tabs")
        yield Static(id="banner", markup=False)
        yield Body("body")
        yield Static(id="small", markup=False)
        yield Bar("reel")
        yield FilterInput()
        yield AskingInput()
        yield Bar("footer")

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()

        def end(code: int) -> None:
            self._expect_end(code)  # at once: the loop may be waiting for the terminal
            loop.call_soon_threadsafe(self.exit, None, code)

        # Textual handles none of them: the terminal would be left in mouse mode.
        self._signalled = Signalled(end)
        self._signalled.listen()
        self.query_one(Body).focus()
        self._ask_for()
        self.run_worker(self.feed.run(), group="feed", exit_on_error=False)
        self.set_interval(1.0, self._tick)
        self.call_after_refresh(gc.enable)  # see tui.cli
        self._draw()

    def on_unmount(self) -> None:
        self._signalled.close()

    def exit(
        self, result: None = None, return_code: int = 0, message: "RenderableType | None" = None
    ) -> None:
        self._expect_end(return_code)
        super().exit(result, return_code, message)

    # -- what arrives ----------------------------------------------------------------------------

    def _arrived(self, snapshot: Snapshot) -> None:
        """The feed's newest; a frozen display keeps showing the one before."""
        before, self.newest = self.newest, snapshot
        if self.replay is None:
            self._tell(before, snapshot)
        if self.scene.frozen and self.scene.status is not None:
            # How we are connected is news even to a display that stands still.
            snapshot = replace(self.scene.snapshot, link=snapshot.link)
        self.set_scene(snapshot=snapshot)
        self._ask_for()

    def _tell(self, before: Snapshot, now: Snapshot) -> None:
        """Toasts: of the connection, and one for alerts that are new since the last answer."""
        link = before.link
        if link.state == "live" == now.link.state and link.address != now.link.address:
            self.say(f"{link.address} is gone: now attached to {now.link.address}")
        elif link.state == "lost" and now.link.state == "live":
            self.say(f"connected again, to {now.link.address}")
        if before.told.alerts is None:
            return
        known = {alert.id for alert in before.told.open_alerts}
        new = [one for one in now.told.open_alerts if one.id not in known and one.severity in LOUD]
        new.sort(key=lambda alert: health.gravity(alert.severity))
        if new and not self._owes_drawing:
            more = f" (and {len(new) - 1} more: 8)" if len(new) > 1 else ""
            grave = new[0].severity != "warning"
            self.say(new[0].text + more, "error" if grave else "warning")

    def _tick(self) -> None:
        """Ages and waiting times grow by themselves, and stale data turn grey."""
        if self.replay is not None and self.replay.play():
            self.feed.nudge()
        self.set_scene()

    def set_scene(self, scene: Scene | None = None, **changes: object) -> None:
        """The next scene: this one, or the present one, with these changes; it is drawn."""
        before = self.scene
        reel = self.replay.reel if self.replay is not None else None
        now_s = time.monotonic()
        self.scene = replace(scene or before, now_s=now_s, reel=reel, **changes)  # type: ignore[arg-type]
        same = replace(before, now_s=now_s, reel=reel)
        changed = self.scene != same or before.is_greyed != self.scene.is_greyed
        if changed or self._owes_drawing:
            self._draw()
        else:
            self._draw_bars()

    def look(self, scene: Scene) -> None:
        """The user looks at something else: draw it, and ask for what it needs."""
        self.set_scene(scene)
        if scene.view != PROMPT:
            self.action_leave_line()
        if self._ask_for():
            self.feed.nudge()

    def _ask_for(self) -> bool:
        """Tell the feed what the view needs; whether that is something new."""
        before = self.feed.wants
        self.feed.wants = wants(self.scene, self._records)
        return self.feed.wants != before

    # -- drawing ---------------------------------------------------------------------------------

    def _draw(self) -> None:
        self._owes_drawing = not self._is_drawable()
        if self._owes_drawing:
            return
        screen, (width, height) = self.screen_stack[0], self.size
        with self.batch_update():
            screen.set_class(too_small(width, height), "-too-small")
            screen.query_one("#small", Static).update(Content(too_small_text(width, height)))
            self._draw_bars()
            screen.query_one(Body).show(self.scene)

    def _draw_bars(self) -> None:
        if not self._is_drawable():
            return
        screen, (width, height) = self.screen_stack[0], self.size
        for name, line in (
            ("header", bars.header(self.scene, width)),
            ("tabs", bars.tabs(self.scene, width)),
            ("reel", bars.reel(self.scene, width)),
            ("footer", bars.footer(self.scene, width, height)),
        ):
            screen.query_one(f"#{name}", Bar).show(line, self.scene)
        screen.query_one("#reel").display = self.scene.reel is not None
        banner, text = screen.query_one("#banner", Static), bars.banner(self.scene, width)
        if text is not None:
            banner.set_class(self.scene.snapshot.link.state == "live", "bad")
            banner.update(Content(text))
        banner.display = text is not None

    def _is_drawable(self) -> bool:
        """A snapshot may still arrive while the app is leaving; and what a terminal that stopped
        reading is told would wait in Textual's queue, and then the loop for room in it.
        """
        there = self.is_running and bool(self.screen_stack) and self.screen_stack[0].is_attached
        return there and (self.is_headless or takes_more(1 if self.is_web else 2))

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self._draw)
