"""The part of the screen that only looks: views, lists, filters, themes, replays, files."""

import io
import time
from pathlib import Path

from textual.widgets import Input

from tui import bars, export, moves
from tui.palette import BY_NAME
from tui.prompting import PromptingApp
from tui.screens.help import HelpScreen
from tui.tape import Replay
from tui.views.prompt import NAME as PROMPT
from tui.widgets.body import Bar, Body
from tui.widgets.filter import FilterInput

INTERVAL_MIN_S, INTERVAL_MAX_S = 0.25, 10.0


class LookingApp(PromptingApp):
    """Each key makes another scene of the present one (tui/moves.py), and it is drawn."""

    replay: Replay | None

    # -- keys and clicks that only look ----------------------------------------------------------

    def action_view(self, digit: int | None) -> None:
        self.look(moves.view(self.scene, digit))

    def action_pane(self, delta: int) -> None:
        self.look(moves.pane(self.scene, self.body_size, delta))

    def action_cursor(self, delta: int) -> None:
        self.look(moves.cursor(self.scene, self.body_size, delta))

    def action_cursor_first(self) -> None:
        self.look(moves.go(self.scene, self.body_size, 0))

    def action_cursor_last(self) -> None:
        self.look(moves.last(self.scene, self.body_size))

    def action_open_selected(self) -> None:
        if self.scene.view == PROMPT:
            self.action_ask()
        else:
            self.look(moves.open_(self.scene, self.body_size))

    def action_step_back(self) -> None:
        if self.scene.view != PROMPT or not self.stop_answer():
            self.look(moves.step_back(self.scene, self.body_size))

    def action_chart(self) -> None:
        self.look(moves.chart(self.scene))

    def action_smooth(self) -> None:
        self.look(moves.smooth(self.scene))

    def action_level(self) -> None:
        self.look(moves.level(self.scene))

    def action_maximise(self) -> None:
        self.look(moves.maximise(self.scene))

    def on_body_pointed(self, event: Body.Pointed) -> None:
        self.look(moves.point(self.scene, event.pane_id, event.key))

    def on_body_rolled(self, event: Body.Rolled) -> None:
        pointed = moves.point(self.scene, event.pane_id, None)
        self.look(moves.cursor(pointed, self.body_size, event.delta))

    def on_bar_clicked(self, event: Bar.Clicked) -> None:
        width = self.size.width
        if event.bar_id == "tabs":
            self.action_view(bars.tab_at(self.scene, width, event.x))
        elif event.bar_id == "reel" and self.replay is not None:
            self.replay.seek_part(event.x / max(1, width - 1))
            self._rewound()

    def action_filter(self) -> None:
        self.query_one(FilterInput).begin(self.scene.filters.get(self.scene.view, ""))

    def on_input_changed(self, event: Input.Changed) -> None:
        if isinstance(event.input, FilterInput) and event.input.display:
            self.look(moves.filtered(self.scene, event.value))

    def action_filter_done(self, keep: bool) -> None:
        self.query_one(FilterInput).display = False
        self.query_one(Body).focus()
        if not keep:
            self.look(moves.filtered(self.scene, ""))

    def action_freeze(self) -> None:
        frozen = not self.scene.frozen
        self.set_scene(frozen=frozen, snapshot=self.scene.snapshot if frozen else self.newest)

    def action_faster(self) -> None:
        self._set_interval(self.scene.interval_s / 2)

    def action_slower(self) -> None:
        self._set_interval(self.scene.interval_s * 2)

    def _set_interval(self, interval_s: float) -> None:
        interval_s = max(INTERVAL_MIN_S, min(INTERVAL_MAX_S, interval_s))
        self.feed.interval_s = interval_s
        self.feed.nudge()
        self.set_scene(interval_s=interval_s)
        self.say(f"asking every {interval_s:g} s")

    def action_refresh_now(self) -> None:
        self.feed.nudge()

    def action_theme(self) -> None:
        names = list(BY_NAME)
        self.action_paint(names[(names.index(self.scene.palette.name) + 1) % len(names)])

    def action_paint(self, name: str) -> None:
        self.theme = name
        self.set_scene(palette=BY_NAME[name])

    def action_help(self) -> None:
        self.push_screen(HelpScreen(self.scene))

    # -- replay ----------------------------------------------------------------------------------

    def action_play(self) -> None:
        if self.replay is None:
            self.say("this is no recording: p2ptui --replay FILE shows one")
            return
        self.replay.toggle()
        self._rewound()

    def action_rewind(self, delta: int) -> None:
        if self.replay is not None:
            self.replay.is_playing = False
            self.replay.step(delta)
            self._rewound()

    def _rewound(self) -> None:
        """Time went back or on: what is shown begins afresh."""
        self.feed.forget()
        self.feed.nudge()
        self.set_scene()

    # -- files -----------------------------------------------------------------------------------

    def action_export(self) -> None:
        size, now_s = self.body_size, time.time()
        told = {"json": export.as_json(self.scene, size), "csv": export.as_csv(self.scene, size)}
        for kind, text in told.items():
            if text is not None:
                self._write(export.file_name(self.scene, kind, now_s), text)

    def action_picture(self) -> None:
        svg = self.export_screenshot(title=f"p2ptui {self.scene.view}")
        self._write(export.file_name(self.scene, "svg", time.time()), svg)

    def _write(self, name: str, text: str) -> None:
        from p2p.storage.disk import write_output  # not needed to open the screen

        if self.is_web:
            self.deliver_text(io.StringIO(text), save_filename=name)
            self.say(f"{name} goes to your browser's downloads")
            return
        path = Path.cwd() / name
        try:
            write_output(path, [text.encode()])
        except OSError as error:
            self.say(f"cannot write {path}: {error.strerror}", "error")
        else:
            self.say(f"wrote {path}")

    def action_copy(self) -> None:
        text = export.selected_text(self.scene, self.body_size)
        if text is None:
            self.say("no line is selected")
        else:
            self.copy_to_clipboard(text)
            self.say(f"copied: {text}")
