"""The part of the screen that steers: it says what would happen, asks, and asks the cluster.

Every key that changes something comes through `action_steer`; every request that changes something
goes out through `_carry_out`.
"""

import time
from dataclasses import replace

from textual import work
from textual.app import App

from tui.actions import PLANS, cannot_decide, propose
from tui.feed import Feed
from tui.layout import HEIGHT_MIN, WIDTH_MIN, too_small
from tui.lines import LINES
from tui.proposal import Choice, Made, Menu, Proposal, Refusal, Selection
from tui.scene import Scene
from tui.screens.choose import ChooseScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.line import LineScreen
from tui.snapshot import Snapshot
from tui.text import clean

TOO_SMALL = f"the terminal is too small to ask: {WIDTH_MIN}x{HEIGHT_MIN} is needed"


class SteeredApp(App[None]):
    """`newest` is what the feed told last, also while the display is frozen."""

    scene: Scene
    feed: Feed
    newest: Snapshot

    def action_steer(self, action: str) -> None:
        """Say what would happen, ask if it is destructive, then do it."""
        if action in LINES:
            self._type(action)
            return
        assert action in PLANS
        self._offer(action, self._propose(action), self.scene.selection)

    def _propose(self, action: str) -> Made:
        """From what is true now, also while the display is frozen."""
        if too_small(*self.size):
            return Refusal(TOO_SMALL)
        return self._proposed(action, self.scene.selection)

    def _proposed(self, action: str, selection: Selection) -> Made:
        return propose(action, self.newest, selection, self.scene.read_only, self._is_stale())

    def _is_stale(self) -> bool:
        return replace(self.scene, snapshot=self.newest, now_s=time.monotonic()).is_greyed

    def _offer(self, action: str, made: Made, selection: Selection) -> None:
        if isinstance(made, Refusal):
            self.say(made.reason, "warning")
        elif isinstance(made, Menu):

            def chosen(choice: Choice | None) -> None:
                if choice is not None:
                    self._offer(action, choice.made, selection)

            self.push_screen(ChooseScreen(made), chosen)
        elif made.ask:
            self.push_screen(
                ConfirmScreen(made), lambda yes: self._confirmed(action, made, selection, yes)
            )
        else:
            self._carry_out(made)

    def _confirmed(
        self, action: str, shown: Proposal, selection: Selection, yes: bool | None
    ) -> None:
        if not yes:
            self.say("nothing was done")
            return
        # The selection is the dialogue's own; only whether it may still be done is asked anew.
        chosen = replace(
            selection,
            peer=shown.args.get("peer", selection.peer),
            job=shown.args.get("job", selection.job),
        )
        now = _same(self._proposed(action, chosen), shown)
        if isinstance(now, Refusal):
            self.say(now.reason, "warning")
        elif now is None or set(now.danger) - set(shown.danger):
            self.say("the cluster changed meanwhile: look and ask again", "warning")
        else:
            self._carry_out(now)

    def _type(self, action: str) -> None:
        """A line after a command's name; what it asks for is done when it is typed."""
        problem = self._cannot_type(action)
        if problem is not None:
            self.say(problem, "warning")
            return
        newest, job = self.newest, self.scene.selection.job
        typed = LINES[action].typed(newest.status, job, newest.link.address)
        self.push_screen(LineScreen(typed), lambda made: self._typed(action, made))

    def _cannot_type(self, action: str) -> str | None:
        if too_small(*self.size):
            return TOO_SMALL
        problem = cannot_decide(action, self.newest, self.scene.read_only, self._is_stale())
        return None if problem is None else problem.reason

    def _typed(self, action: str, made: Proposal | None) -> None:
        problem = self._cannot_type(action)
        if made is None:
            return
        if problem is not None:
            self.say(problem, "warning")
        else:
            self._carry_out(made)

    @work(group="requests", exit_on_error=False)
    async def _carry_out(self, made: Proposal) -> None:
        """The only place that asks the cluster to change."""
        try:
            await self.feed.source.request(made.verb, **made.args)
        except Exception as error:  # whatever it was, the screen goes on and says it
            self.say(f"{made.cli}: {error or type(error).__name__}", "error")
        else:
            self.say(f"{made.done}\n$ {made.cli}")
        self.feed.nudge()

    def say(self, text: str, severity: str = "information") -> None:
        shown = "\n".join(clean(line) for line in text.split("\n"))
        self.notify(shown, severity=severity, markup=False, timeout=6)  # type: ignore[arg-type]


def _same(now: Made, shown: Proposal) -> Proposal | Refusal | None:
    """The proposal that is now what was shown; None if there is none any more."""
    if isinstance(now, Menu):
        offered = [choice.made for choice in now.choices]
        found = [one for one in offered if isinstance(one, Proposal)]
    elif isinstance(now, Refusal):
        return now
    else:
        found = [now]
    return next((one for one in found if (one.verb, one.args) == (shown.verb, shown.args)), None)
