"""The part of the screen that asks served models: a line to type in, answers as they come.

An answer goes on while the screen shows something else, and the screen while an answer comes: what
came is drawn DRAW_EVERY_S apart, however many tokens that are.
"""

import time
import uuid
from dataclasses import replace
from typing import Any

from textual import work
from textual.worker import Worker

from tui import chat, moves
from tui.asking import cannot_send, cannot_type
from tui.chat import Answered, Chat, Turn
from tui.feed import Answer
from tui.layout import too_small
from tui.lines import options_line
from tui.scene import Scene
from tui.screens.line import LineScreen
from tui.steering import TOO_SMALL, SteeredApp
from tui.text import clean
from tui.told import Model
from tui.views.prompt import NAME
from tui.widgets.asking import AskingInput
from tui.widgets.body import Body

DRAW_EVERY_S = 0.1
TALK = "talk"


class PromptingApp(SteeredApp):
    """At most one answer at a time."""

    _answer: Worker[None] | None = None
    _owed: dict[str, Any] | None = None  # of the answer that comes, and is not drawn yet

    def look(self, scene: Scene) -> None:
        """Draw it, and ask for what it needs."""
        raise NotImplementedError

    def set_scene(self, scene: Scene | None = None, **changes: object) -> None:
        raise NotImplementedError

    @property
    def body_size(self) -> tuple[int, int]:
        size = self.screen_stack[0].query_one(Body).size
        return size.width, size.height

    # -- the line --------------------------------------------------------------------------------

    def action_ask(self) -> None:
        """To the view, and to the line if anybody can be asked."""
        if self.scene.view != NAME:
            self.look(replace(self.scene, view=NAME, maximised=False))
        why = TOO_SMALL if too_small(*self.size) else cannot_type(self._now)
        if why is not None:
            self.say(why, "warning")
        else:
            self._line.begin()

    def action_leave_asking(self) -> None:
        """Esc: the answer that comes is stopped, else the line is left; what was typed stays."""
        if not self.stop_answer():
            self.action_leave_line()

    def action_leave_line(self) -> None:
        if self._line.display:
            self._line.leave()
            self.query_one(Body).focus()

    def action_type_newline(self) -> None:
        self._line.insert_newline()

    def action_recall(self, delta: int) -> None:
        self._line.recall(self.scene.chat.prompts, delta)

    def action_scroll_talk(self, delta: int) -> None:
        pointed = moves.point(self.scene, TALK, None)
        self.look(moves.cursor(pointed, self.body_size, delta))

    def action_options(self) -> None:
        if too_small(*self.size):
            self.say(TOO_SMALL, "warning")
            return

        def taken(read: tuple[str, dict[str, Any]] | None) -> None:
            if read is not None:
                line, options = read
                self.set_scene(chat=replace(self.scene.chat, line=line, options=options))

        self.push_screen(LineScreen(options_line(self.scene.chat.line)), taken)

    def action_afresh(self) -> None:
        """A new conversation, with the same options; of another view only the view is changed."""
        if self.scene.view != NAME:
            self.look(replace(self.scene, view=NAME, maximised=False))
            return
        self.stop_answer()
        self.set_scene(chat=chat.afresh(self.scene.chat))

    @property
    def _line(self) -> AskingInput:
        return self.screen_stack[0].query_one(AskingInput)

    @property
    def _now(self) -> Scene:
        """What is true now, also while the display is frozen."""
        return replace(self.scene, snapshot=self.newest, now_s=time.monotonic())

    # -- answers ---------------------------------------------------------------------------------

    def action_send(self) -> None:
        prompt, now = self._line.prompt, self._now
        why, model = cannot_send(now), now.model
        if not prompt.strip():
            return
        if why is not None or model is None:
            self.say(why or "nothing is served", "warning")
            return
        self._line.sent()
        before = now.chat
        if not before.conversation:
            before = replace(before, conversation=uuid.uuid4().hex)
        after = chat.begun(before, model, prompt, now.now_s)
        cursors = {name: key for name, key in self.scene.cursors.items() if name != TALK}
        self.set_scene(chat=after, cursors=cursors)
        self._answer = self._listen(before, model, after.turns[-1])

    def stop_answer(self) -> bool:
        """Whether there was one to stop."""
        turn = self.scene.chat.open
        if turn is None:
            return False
        if self._answer is not None:
            self._answer.cancel()
        self._end(turn.number, stopped=True)
        return True

    @work(group="answer", exclusive=True, exit_on_error=False)
    async def _listen(self, before: Chat, model: Model, turn: Turn) -> None:
        """Until the answer's end. A stopped one is told so by whoever stopped it."""
        first_s: float | None = None
        text = ""
        try:
            asked = await self.feed.source.generate(
                chat.question(before, model, turn.prompt),
                model=model.id,
                conversation=before.conversation,
                **chat.asked_with(before, self.scene.read_only),
            )
            async for piece in asked:
                if first_s is None:
                    first_s = time.monotonic() - turn.asked_s
                text += piece
                self._came(turn.number, text, asked)
        except Exception as error:  # whatever it was, the screen goes on and says it
            self._end(turn.number, problem=clean(str(error) or type(error).__name__))
        else:
            self._end(turn.number, text=text, end=_answered(asked, first_s))

    def _came(self, number: int, text: str, asked: Answer) -> None:
        is_drawn_soon = self._owed is not None
        peer = clean(str(asked.answering.get("peer_name", "")))
        self._owed = {"number": number, "text": text, "tokens": len(asked.told_ids), "peer": peer}
        if not is_drawn_soon:
            self.set_timer(DRAW_EVERY_S, self._draw_answer)

    def _draw_answer(self) -> None:
        owed, self._owed = self._owed, None
        if owed is not None:
            self.set_scene(chat=chat.changed(self.scene.chat, **owed))

    def _end(self, number: int, **changes: Any) -> None:
        self._draw_answer()
        ended = chat.ended(self.scene.chat, number, time.monotonic(), **changes)
        self.set_scene(chat=ended)
        if self.scene.view != NAME:
            self.say(changes.get("problem") or "the prompt is answered: 0 shows it")


def _answered(asked: Answer, first_s: float | None) -> Answered | None:
    end = asked.end
    return end and Answered(
        reason=clean(end.reason),
        peer=clean(end.peer),
        replica=clean(end.replica),
        tokens=end.completion_tokens,
        seconds=end.seconds,
        seed=asked.seed,
        moves=end.moves,
        first_s=first_s,
    )
