"""The screen, driven by keys: what it shows at each size, and that it asks only after a yes."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from p2p.errors import Refused
from tests.tui_fake import FakeCluster
from tui.app import ClusterApp
from tui.screens.confirm import ConfirmScreen
from tui.screens.help import HelpScreen, help_text
from tui.screens.line import LineScreen
from tui.widgets.body import Bar, Body

SIZES = [(80, 24), (120, 40), (200, 60)]
PATIENCE_S = 10.0


class Driver:
    """A pilot that waits for what it expects instead of sleeping."""

    def __init__(self, pilot: Pilot[Any], cluster: FakeCluster) -> None:
        self.pilot, self.cluster = pilot, cluster
        assert isinstance(pilot.app, ClusterApp)
        self.app: ClusterApp = pilot.app

    async def until(self, done: Callable[[], bool], what: str) -> None:
        deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
        while not done():
            assert asyncio.get_running_loop().time() < deadline_s, f"never: {what}\n{self.text()}"
            await self.pilot.pause(0.01)
        await self.settle()

    async def sees(self, *words: str) -> None:
        for word in words:
            await self.until(lambda word=word: word in self.text(), word)  # type: ignore[misc]

    async def press(self, *keys: str) -> None:
        for key in keys:
            self.app.simulate_key(key)
            await self.settle()

    async def click(self, selector: str, x: int, y: int) -> None:
        await self.pilot.click(selector, offset=(x, y))
        await self.settle()

    async def settle(self) -> None:
        """Until nobody has anything left to hear, and all is drawn. The pilot's own waiting goes
        by how busy the processor is: a tenth of a second for each key, and hope."""
        busy = True
        while busy:
            await self.pilot._wait_for_screen()
            self.app.screen._on_timer_update()
            everybody = (self.app, *self.app.screen.walk_children(with_self=True))
            busy = any(each.message_queue_size for each in everybody)

    async def again(self) -> None:
        """One more poll, and its drawing."""
        before = self.cluster.asked.count("status")
        self.app.feed.nudge()
        await self.until(lambda: self.cluster.asked.count("status") > before, "a poll")

    def text(self) -> str:
        """All that is on the screen, pane by pane, and the banner and toasts."""
        screen = self.app.screen_stack[0]
        lines = [bar.render_line(0).text for bar in screen.query(Bar) if bar.display]
        if screen.query_one(Body).display:
            lines.append(screen.query_one(Body).text())
        lines += [str(static.content) for static in screen.query(Static) if static.display]
        if len(self.app.screen_stack) > 1:
            lines += [str(static.content) for static in self.app.screen.query(Static)]
        lines += [toast.message for toast in self.app._notifications]
        return "\n".join(lines)

    @property
    def requests(self) -> list[tuple[str, dict[str, Any]]]:
        return self.cluster.requests


@asynccontextmanager
async def screen(
    cluster: FakeCluster, size: tuple[int, int] = (120, 40), **options: Any
) -> AsyncIterator[Driver]:
    app = ClusterApp(cluster, interval_s=options.pop("interval_s", 60.0), **options)
    async with app.run_test(size=size) as pilot:
        driver = Driver(pilot, cluster)
        await driver.until(
            lambda: cluster.down or app.scene.snapshot.link.state == "live", "first answer"
        )
        if cluster.jobs and not cluster.down:
            await driver.until(lambda: app.scene.detail is not None, "the job's curve")
        yield driver


# -- what is shown ------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "peers"), [(SIZES[0], 1), *itertools.product(SIZES, [3, 12])])
def test_a_live_cluster_is_shown_whole(size: tuple[int, int], peers: int) -> None:
    async def look() -> None:
        async with screen(FakeCluster(peers), size) as driver:
            await driver.sees("lab", "★ leader", "● alive", "● running", "digits-1", "240/450")
            await driver.sees("0.2413", "95.1%", "5,210", "gen 2 at 96", "● live")
            if size[1] > 30:
                await driver.sees("3fa94c0be1d2")
            await driver.sees("stall 0.12 s", "node-1", "generation 2 with 3 trainers")
            assert ("─ ring ─" in driver.text()) == (size[0] >= 100)
            assert any("⠀" < character < "⣿" for character in driver.text())
            assert driver.app.query_one(Body).region.bottom == size[1] - 1
            assert not driver.app.query_one("#banner").display

    asyncio.run(look())


def test_an_empty_cluster_says_what_to_do() -> None:
    async def look() -> None:
        async with screen(FakeCluster(1, jobs=0), (80, 24)) as driver:
            await driver.sees("no jobs yet: S submits one", "1 peer")

    asyncio.run(look())


def test_too_small_says_how_large_and_asks_nothing() -> None:
    async def look() -> None:
        async with screen(FakeCluster(3), (40, 10)) as driver:
            await driver.sees("needs 80x24", "this terminal is 40x10")
            await driver.press("K", "S", "A")
            assert len(driver.app.screen_stack) == 1
            assert not driver.requests
            await driver.pilot.resize_terminal(120, 40)
            await driver.sees("★ leader")

    asyncio.run(look())


def test_names_with_brackets_and_escapes_are_only_text() -> None:
    async def look() -> None:
        cluster = FakeCluster(3)
        evil = "[bold red]x[/] [link=a"
        cluster.peers[1]["name"] = evil
        cluster.jobs[0]["name"], cluster.jobs[0]["reason"] = "[/]job[", "ValueError: [b]\x1b[2J"
        cluster.tell("[/nothing] \x1b]0;title\x07", "error")
        async with screen(cluster, (200, 60)) as driver:
            await driver.sees(evil, "[/]job[", "ValueError: [b]·[2J", "[/nothing] ·]0;title·")
            await driver.press("j", "K")
            assert isinstance(driver.app.screen, ConfirmScreen)
            await driver.press("y")
            await driver.sees(f"{evil} was killed")

    asyncio.run(look())


def test_ascii_mode_is_ascii() -> None:
    async def look() -> None:
        async with screen(FakeCluster(3), ascii_only=True) as driver:
            await driver.sees("* leader", "+ alive", "+ running")
            text = driver.text()
            # What remains is punctuation every encoding of our terminals has had for decades.
            assert [c for c in text if not c.isascii() and c not in "–…·"] == []

    asyncio.run(look())


def test_every_theme_draws() -> None:
    async def look() -> None:
        async with screen(FakeCluster(3)) as driver:
            for name in ("p2p-light", "p2p-clear", "p2p-mono", "p2p-dark"):
                await driver.press("t")
                assert driver.app.scene.palette.name == driver.app.theme == name
                await driver.sees("★ leader")

    asyncio.run(look())


# -- keys and requests --------------------------------------------------------------------------


STEERING = [
    ("j,X", ("remove", {"peer": "p02"})),
    ("j,K", ("fault", {"kind": "kill", "peer": "p02"})),
    ("G,L", ("transfer", {"peer": "p03"})),
    ("C", ("cancel", {"job": "j01"})),
]
YES, NO = ["y", "tab,enter", "right,enter"], ["enter", "n", "escape"]


@pytest.mark.parametrize(
    ("keys", "request_", "answer"),
    [(*steering, answer) for steering in STEERING for answer in (YES[0], NO[0])]
    + [(*STEERING[0], answer) for answer in (*YES[1:], *NO[1:])],
)
def test_destructive_keys_ask_first_and_no_is_the_default(
    keys: str, request_: tuple[str, dict[str, Any]], answer: str
) -> None:
    async def steer() -> None:
        async with screen(FakeCluster(3), (80, 24)) as driver:
            await driver.press(*keys.split(","))
            assert isinstance(driver.app.screen, ConfirmScreen)
            assert not driver.requests
            await driver.press(*answer.split(","))
            if answer in YES:
                await driver.sees("$ p2pnode ")
                assert driver.requests == [request_]
            else:
                await driver.sees("nothing was done")
                assert not driver.requests
            assert len(driver.app.screen_stack) == 1

    asyncio.run(steer())


def test_gentle_keys_act_at_once_and_name_the_command() -> None:
    async def steer() -> None:
        async with screen(FakeCluster(3)) as driver:
            await driver.press("A")
            await driver.sees("$ p2pnode add 1", "node-4")
            await driver.press("J")
            await driver.sees("$ p2pnode pause j01", "◫ paused")
            await driver.press("J")
            await driver.sees("$ p2pnode resume j01", "● running")
            expected = [
                ("add", {"count": 1}),
                ("pause", {"job": "j01"}),
                ("resume", {"job": "j01"}),
            ]
            assert driver.requests == expected

    asyncio.run(steer())


def test_a_job_is_submitted_from_a_line_and_a_wrong_line_stays_open() -> None:
    async def steer() -> None:
        async with screen(FakeCluster(3, jobs=0)) as driver:
            await driver.press("S")
            assert isinstance(driver.app.screen, LineScreen)
            line = driver.app.screen.query_one(Input)
            line.value = "digits --epochs many"
            await driver.press("enter")
            await driver.sees("invalid int value: 'many'")
            assert not driver.requests
            line.value = "digits --epochs 2 --name first"
            await driver.press("enter")
            await driver.sees("first was submitted", "$ p2pnode submit digits")
            [(verb, args)] = driver.requests
            assert verb == "submit"
            assert {"task": "digits", "epochs": 2, "name": "first"}.items() <= args.items()
            await driver.press("S", "escape")
            assert len(driver.requests) == 1

    asyncio.run(steer())


def test_the_chosen_job_is_the_one_that_is_cancelled() -> None:
    async def steer() -> None:
        async with screen(FakeCluster(3, jobs=3)) as driver:
            await driver.press("tab", "down", "up", "up", "C", "y")
            await driver.sees("$ p2pnode cancel j01")
            assert driver.requests == [("cancel", {"job": "j01"})]

    asyncio.run(steer())


def test_losing_the_quorum_is_said_before_it_is_done() -> None:
    async def steer() -> None:
        cluster = FakeCluster(3)
        cluster.peers[2]["state"] = "dead"
        async with screen(cluster, (80, 24)) as driver:
            await driver.press("j", "K")
            await driver.sees(
                "QUORUM WOULD BE LOST: 1 of 3 voters left", "p2pnode fault kill node-2"
            )

    asyncio.run(steer())


def test_a_yes_to_what_is_no_longer_so_does_nothing() -> None:
    async def steer() -> None:
        cluster = FakeCluster(3)
        async with screen(cluster) as driver:
            await driver.press("j", "K")
            cluster.peers[2]["state"] = "dead"  # now the kill would cost the quorum
            await driver.again()
            await driver.press("y")
            await driver.sees("the cluster changed meanwhile")
            assert not driver.requests

    asyncio.run(steer())


def test_a_refused_request_is_said_and_the_screen_goes_on() -> None:
    async def steer() -> None:
        cluster = FakeCluster(3)
        cluster.refuse = Refused("node-2 does not allow faults: start it with --allow-faults")
        async with screen(cluster) as driver:
            await driver.press("j", "K", "y")
            await driver.sees("p2pnode fault kill node-2: node-2 does not allow faults")
            await driver.again()

    asyncio.run(steer())


def test_read_only_greys_and_refuses_every_steering_key() -> None:
    async def steer() -> None:
        async with screen(FakeCluster(3), read_only=True) as driver:
            await driver.sees("READ-ONLY")
            await driver.press("A", "X", "K", "L", "J", "C", "S")
            await driver.sees("this screen is read-only")
            assert len(driver.app.screen_stack) == 1
            assert not driver.requests

    asyncio.run(steer())


# -- connection ---------------------------------------------------------------------------------


def test_a_disconnect_keeps_the_data_and_comes_back_at_another_peer() -> None:
    async def steer() -> None:
        cluster = FakeCluster(3)
        async with screen(cluster, (80, 24)) as driver:
            cluster.down = True
            await driver.again()
            await driver.sees("reconnecting to 10.0.0.1:7700: attempt", "data from")
            await driver.sees("node-3", "240/450", "◌ stale")
            await driver.press("X", "A")
            await driver.sees("not connected")
            assert len(driver.app.screen_stack) == 1
            assert not driver.requests
            cluster.down = False
            cluster.attached = "10.0.0.2:7700"
            await driver.press("r")
            await driver.sees("connected again, to 10.0.0.2:7700", "◆ node-2", "● live")
            assert not driver.app.query_one("#banner").display

    asyncio.run(steer())


def test_a_silent_failover_is_told() -> None:
    async def steer() -> None:
        cluster = FakeCluster(3)
        async with screen(cluster) as driver:
            cluster.peers[0]["state"] = "dead"
            cluster.attached = "10.0.0.3:7700"
            await driver.again()
            await driver.sees("10.0.0.1:7700 is gone: now attached to 10.0.0.3:7700", "✖ dead")

    asyncio.run(steer())


def test_it_opens_before_any_peer_answers() -> None:
    async def steer() -> None:
        cluster = FakeCluster(3)
        cluster.down = True
        async with screen(cluster, (80, 24)) as driver:
            await driver.sees("connecting to 10.0.0.1:7700: attempt", "no answer from a peer yet")
            cluster.down = False
            await driver.press("r")
            await driver.sees("★ leader", "● live")

    asyncio.run(steer())


def test_a_frozen_display_stands_still_while_the_feed_goes_on() -> None:
    async def steer() -> None:
        cluster = FakeCluster(3)
        async with screen(cluster) as driver:
            await driver.press("space")
            await driver.sees("FROZEN")
            cluster.jobs[0]["step"] = 333
            await driver.again()
            assert "333/450" not in driver.text()
            cluster.down = True
            await driver.again()
            await driver.sees("reconnecting", "240/450")
            cluster.down = False
            await driver.again()
            await driver.press("space")
            await driver.sees("333/450")

    asyncio.run(steer())


# -- moving about -------------------------------------------------------------------------------


def test_the_cursor_stays_on_its_peer_and_scrolls() -> None:
    async def steer() -> None:
        cluster = FakeCluster(12)
        async with screen(cluster, (80, 24)) as driver:
            await driver.press("G", "k")
            await driver.sees("node-11", "of 12 peers")
            del cluster.peers[0]
            await driver.again()
            await driver.press("X")
            await driver.sees("p2pnode remove node-11")
            await driver.press("n")

    asyncio.run(steer())


def test_events_follow_until_scrolled() -> None:
    async def steer() -> None:
        cluster = FakeCluster(3)
        for i in range(60):
            cluster.tell(f"happening {i}")
        async with screen(cluster, (80, 24)) as driver:
            await driver.sees("happening 59")
            await driver.press("shift+tab", *["k"] * 10)
            cluster.tell("something new")
            await driver.again()
            assert "something new" not in driver.text()
            await driver.press("G")
            await driver.sees("something new")

    asyncio.run(steer())


def test_c_turns_the_curves_and_help_names_every_key() -> None:
    async def steer() -> None:
        async with screen(FakeCluster(3), (80, 24)) as driver:
            await driver.press("c")
            await driver.sees("─ accuracy ─")
            await driver.press("c")
            await driver.sees("─ samples/s ─")
            await driver.press("question_mark")
            assert isinstance(driver.app.screen, HelpScreen)
            await driver.press("question_mark")
            assert len(driver.app.screen_stack) == 1
            text = help_text(driver.app.scene)
            assert all(word in text for word in ("kill the selected peer", "✖ dead", "★ leader"))

    asyncio.run(steer())


def test_q_leaves() -> None:
    async def steer() -> None:
        async with screen(FakeCluster(3)) as driver:
            await driver.press("q")
            await driver.until(lambda: not driver.app.is_running, "the end")

    asyncio.run(steer())


def test_no_color_starts_in_the_mono_theme(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look() -> None:
        async with screen(FakeCluster(3), (80, 24)) as driver:
            assert driver.app.theme == "p2p-mono"
            await driver.sees("★ leader", "● alive")

    monkeypatch.setenv("NO_COLOR", "1")
    asyncio.run(look())
