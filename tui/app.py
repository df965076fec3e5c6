"""The main screen. It holds what the user set and the newest snapshot; everything seen is drawn
from these two, and everything asked of the cluster goes through `_carry_out`.
"""

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import replace
from typing import ClassVar

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Resize
from textual.theme import Theme
from textual.widgets import Static

from tui import bars
from tui.actions import PLANS, Proposal, Refusal, Selection, propose, submission
from tui.feed import Feed, Source
from tui.keys import KEYS
from tui.layout import HEIGHT_MIN, WIDTH_MIN, plan, too_small
from tui.palette import MONO, PALETTES, Palette
from tui.scene import CHARTS, Scene
from tui.screens.confirm import ConfirmScreen
from tui.screens.help import HelpScreen
from tui.screens.submit import SubmitScreen
from tui.snapshot import Snapshot
from tui.text import clean
from tui.widgets.charts import ChartPane
from tui.widgets.events import EventsPane
from tui.widgets.list_pane import ListPane
from tui.widgets.pane import Bar, Pane
from tui.widgets.ring import DetailPane, RingPane
from tui.widgets.tables import JobsPane, PeersPane

INTERVAL_MIN_S, INTERVAL_MAX_S = 0.25, 10.0
EXIT_SIGNALLED = 143


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


class ClusterApp(App[None]):
    """The screen of one cluster, seen through any one of its peers."""

    CSS_PATH = "style.tcss"
    ENABLE_COMMAND_PALETTE = False
    TITLE = "p2ptui"
    BINDINGS: ClassVar = [
        Binding(key.keys, key.action, key.label, show=False, priority=key.action == "quit")
        for key in KEYS
    ]

    def __init__(
        self,
        source: Source,
        interval_s: float = 1.0,
        read_only: bool = False,
        ascii_only: bool = False,
    ) -> None:
        super().__init__()
        self.animation_level = "none"  # over ssh every frame costs
        palette = MONO if "NO_COLOR" in os.environ else PALETTES[0]
        for known in PALETTES:
            self.register_theme(textual_theme(known))
        self.theme = palette.name
        self.scene = Scene(
            palette=palette, ascii_only=ascii_only, read_only=read_only, interval_s=interval_s
        )
        self.feed = Feed(source, self._arrived, interval_s)
        self._newest = Snapshot()

    def compose(self) -> ComposeResult:
        yield Bar("header")
        yield Static(id="banner", markup=False)
        with Vertical(id="body"):
            with Horizontal(id="top"):
                yield RingPane("ring")
                with Vertical(id="lists"):
                    yield PeersPane("peers")
                    yield JobsPane("jobs")
            with Horizontal(id="middle"):
                yield DetailPane("detail")
                for kind in CHARTS:
                    chart = ChartPane(f"chart-{kind}", kind)
                    chart.add_class("chart")
                    yield chart
            yield EventsPane("events")
        yield Static(id="small", markup=False)
        yield Bar("footer")

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Textual handles neither: the terminal would be left in mouse mode.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self.exit, None, EXIT_SIGNALLED)
        self.query_one("#peers").focus()
        self.run_worker(self.feed.run(), group="feed", exit_on_error=False)
        self.set_interval(1.0, self._tick)
        self._draw()

    def on_unmount(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)

    # -- what arrives ----------------------------------------------------------------------------

    def _arrived(self, snapshot: Snapshot) -> None:
        """The feed's newest; a frozen display keeps showing the one before."""
        before, self._newest = self._newest.link, snapshot
        if (
            before.state == "live" == snapshot.link.state
            and before.address != snapshot.link.address
        ):
            self._say(f"{before.address} is gone: now attached to {snapshot.link.address}")
        elif before.state == "lost" and snapshot.link.state == "live":
            self._say(f"connected again, to {snapshot.link.address}")
        if self.scene.frozen and self.scene.status is not None:
            # How we are connected is news even to a display that stands still.
            snapshot = replace(self.scene.snapshot, link=snapshot.link)
        self._set(snapshot=snapshot)

    def _tick(self) -> None:
        """Ages and waiting times grow by themselves, and stale data turn grey."""
        self._set()

    def _set(self, **changes: object) -> None:
        was_grey = self.scene.is_greyed
        if self._is_drawable():
            changes["selection"] = self._selection()
            if changes["selection"] == self.scene.selection:
                del changes["selection"]
        now_s = time.monotonic()
        self.scene = replace(self.scene, now_s=now_s, **changes)  # type: ignore[arg-type]
        if changes or was_grey != self.scene.is_greyed:
            self._draw()
        else:
            self._draw_bars()

    # -- drawing ---------------------------------------------------------------------------------

    def _draw(self) -> None:
        if not self._is_drawable():
            return
        with self.batch_update():
            self._lay_out()
            self._draw_bars()
            for pane in self.screen_stack[0].query(Pane):
                pane.show(self.scene)

    def _draw_bars(self) -> None:
        if not self._is_drawable():
            return
        screen, (width, height) = self.screen_stack[0], self.size
        header, footer = screen.query_one("#header", Bar), screen.query_one("#footer", Bar)
        header.show(bars.header(self.scene, width), self.scene)
        footer.show(bars.footer(self.scene, width, height), self.scene)
        banner, text = screen.query_one("#banner", Static), bars.banner(self.scene, width)
        if text is not None:
            banner.set_class(self.scene.snapshot.link.state == "live", "bad")
            banner.update(Content(text))
        if banner.display != (text is not None):
            banner.display = text is not None
            self.call_after_refresh(self._draw)  # the body's height changed

    def _is_drawable(self) -> bool:
        """A snapshot may still arrive while the app is leaving."""
        return self.is_running and bool(self.screen_stack) and self.screen_stack[0].is_attached

    def _lay_out(self) -> None:
        screen, (width, height) = self.screen_stack[0], self.size
        screen.set_class(too_small(width, height), "-too-small")
        small = f"p2ptui needs {WIDTH_MIN}x{HEIGHT_MIN}\nthis terminal is {width}x{height}"
        screen.query_one("#small", Static).update(Content(small))
        status = self.scene.status
        made = plan(
            width,
            height - 2 - bool(screen.query_one("#banner").display),
            len(status.peers) if status else 0,
            len(status.jobs) if status else 0,
        )
        for name, cells in (
            ("top", made.top),
            ("peers", made.peers),
            ("jobs", made.jobs),
            ("middle", made.middle),
            ("events", made.events),
        ):
            screen.query_one(f"#{name}").styles.height = max(1, cells)
        ring = screen.query_one("#ring")
        ring.display = made.ring_width > 0
        ring.styles.width = max(1, made.ring_width)
        screen.query_one("#detail").styles.width = made.detail_width
        first = CHARTS.index(self.scene.chart)
        shown = {CHARTS[(first + i) % len(CHARTS)] for i in range(made.charts)}
        for chart in screen.query(ChartPane):
            chart.display = chart.kind in shown

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self._draw)

    def on_list_pane_chosen(self) -> None:
        jobs = self.screen_stack[0].query_one(JobsPane)
        if jobs.cursor != self.feed.chosen_job:
            self.feed.chosen_job = jobs.cursor
            self.feed.nudge()
        self._set()

    # -- keys that only look ---------------------------------------------------------------------

    def action_cursor(self, delta: int) -> None:
        if isinstance(self.focused, ListPane):
            self.focused.move(delta)

    def action_cursor_first(self) -> None:
        if isinstance(self.focused, ListPane):
            self.focused.go(0)

    def action_cursor_last(self) -> None:
        if isinstance(self.focused, ListPane):
            self.focused.go(len(self.focused.ids()) - 1)

    def action_chart(self) -> None:
        self._set(chart=CHARTS[(CHARTS.index(self.scene.chart) + 1) % len(CHARTS)])

    def action_freeze(self) -> None:
        frozen = not self.scene.frozen
        self._set(frozen=frozen, snapshot=self.scene.snapshot if frozen else self._newest)

    def action_faster(self) -> None:
        self._set_interval(self.scene.interval_s / 2)

    def action_slower(self) -> None:
        self._set_interval(self.scene.interval_s * 2)

    def _set_interval(self, interval_s: float) -> None:
        interval_s = max(INTERVAL_MIN_S, min(INTERVAL_MAX_S, interval_s))
        self.feed.interval_s = interval_s
        self.feed.nudge()
        self._set(interval_s=interval_s)
        self._say(f"asking every {interval_s:g} s")

    def action_refresh_now(self) -> None:
        self.feed.nudge()

    def action_theme(self) -> None:
        names = [palette.name for palette in PALETTES]
        palette = PALETTES[(names.index(self.scene.palette.name) + 1) % len(PALETTES)]
        self.theme = palette.name
        self._set(palette=palette)

    def action_help(self) -> None:
        self.push_screen(HelpScreen(self.scene.ascii_only))

    # -- keys that steer -------------------------------------------------------------------------

    def action_steer(self, action: str) -> None:
        """Say what would happen, ask if it is destructive, then do it."""
        assert action in PLANS
        made = self._propose(action)
        if isinstance(made, Refusal):
            self._say(made.reason, "warning")
        elif made.ask:
            self.push_screen(ConfirmScreen(made), lambda yes: self._confirmed(action, made, yes))
        else:
            self._carry_out(made)

    def action_submit(self) -> None:
        problem = self._cannot_submit()
        if problem is not None:
            self._say(problem, "warning")
            return
        address = self._newest.link.address
        self.push_screen(SubmitScreen(lambda line: submission(line, address)), self._submitted)

    def _propose(self, action: str) -> Proposal | Refusal:
        """From what is true now, also while the display is frozen."""
        if too_small(*self.size):
            return Refusal(f"the terminal is too small to ask: {WIDTH_MIN}x{HEIGHT_MIN} is needed")
        return propose(action, self._newest, self._selection(), self.scene.read_only)

    def _selection(self) -> Selection:
        """What is highlighted, even if no cursor was moved yet. A job only if it was chosen."""
        peers = self.screen_stack[0].query_one(PeersPane)
        jobs = self.screen_stack[0].query_one(JobsPane)
        ids = peers.ids()
        return Selection(ids[peers.position()] if ids else None, jobs.cursor)

    def _confirmed(self, action: str, shown: Proposal, yes: bool | None) -> None:
        if not yes:
            self._say("nothing was done")
            return
        # The selection is the dialogue's own; only whether it may still be done is asked anew.
        peer, job = shown.args.get("peer"), shown.args.get("job")
        now = propose(action, self._newest, Selection(peer, job), self.scene.read_only)
        if isinstance(now, Refusal):
            self._say(now.reason, "warning")
        elif (now.verb, now.args) != (shown.verb, shown.args) or set(now.danger) - set(
            shown.danger
        ):
            self._say("the cluster changed meanwhile: look and ask again", "warning")
        else:
            self._carry_out(now)

    def _cannot_submit(self) -> str | None:
        if too_small(*self.size):
            return f"the terminal is too small to ask: {WIDTH_MIN}x{HEIGHT_MIN} is needed"
        if self.scene.read_only:
            return "this screen is read-only: start p2ptui without --read-only to steer"
        if self._newest.link.state != "live":
            return "not connected: nothing can be asked of the cluster now"
        return None

    def _submitted(self, made: Proposal | None) -> None:
        problem = self._cannot_submit()
        if made is None:
            return
        if problem is not None:
            self._say(problem, "warning")
        else:
            self._carry_out(made)

    @work(group="requests", exit_on_error=False)
    async def _carry_out(self, made: Proposal) -> None:
        """The only place that asks the cluster to change."""
        try:
            await self.feed.source.request(made.verb, **made.args)
        except Exception as error:  # whatever it was, the screen goes on and says it
            self._say(f"{made.cli}: {error or type(error).__name__}", "error")
        else:
            self._say(f"{made.done}\n$ {made.cli}")
        self.feed.nudge()

    def _say(self, text: str, severity: str = "information") -> None:
        shown = "\n".join(clean(line) for line in text.split("\n"))
        self.notify(shown, severity=severity, markup=False, timeout=6)  # type: ignore[arg-type]
