"""Every key of the table, pressed in a running screen: it does what its line in the help says."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.command import CommandPalette
from textual.widgets import Input, OptionList

from tests import tui_fake_told
from tests.test_tui_app import Driver, screen
from tests.tui_fake import FakeCluster
from tui.keys import KEYS
from tui.screens.choose import ChooseScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.help import HelpScreen
from tui.screens.line import LineScreen
from tui.views.catalog import numbered
from tui.widgets.body import Body
from tui.widgets.filter import FilterInput


def test_keys_that_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def look() -> None:
        cluster = FakeCluster(3, jobs=2)
        cluster.alerts = tui_fake_told.storm(3)
        async with screen(cluster) as driver:
            app = driver.app
            for digit, view in numbered():
                await driver.press(str(digit))
                assert app.scene.view == view.name
            await driver.press("1")
            await _moves(driver)
            await _filters(driver)
            for key, changed in _CHANGES.items():
                before = changed(driver)
                await driver.press(key)
                assert changed(driver) != before, key
            await driver.press("colon")
            assert isinstance(app.screen, CommandPalette)
            await driver.press("escape", "ctrl+p")
            assert isinstance(app.screen, CommandPalette)
            await driver.press("escape", "question_mark")
            assert isinstance(app.screen, HelpScreen)
            await driver.press("j", "k", "escape")
            await driver.press("e", "ctrl+s", "y")
            await driver.until(lambda: len(list(tmp_path.iterdir())) == 3, "three files")
            kinds = sorted(path.suffix for path in tmp_path.iterdir())
            assert kinds == [".csv", ".json", ".svg"]
            await driver.sees("copied: ")
            await driver.press("p", "left_square_bracket", "right_square_bracket")
            await driver.sees("this is no recording")
            assert not driver.requests

    asyncio.run(look())


_CHANGES: dict[str, Callable[[Driver], object]] = {
    "space": lambda driver: driver.app.scene.frozen,
    "m": lambda driver: driver.app.scene.maximised,
    "c": lambda driver: driver.app.scene.chart,
    "w": lambda driver: driver.app.scene.smoothing,
    "v": lambda driver: driver.app.scene.level,
    "minus": lambda driver: driver.app.feed.interval_s,
    "plus": lambda driver: driver.app.feed.interval_s,
    "t": lambda driver: driver.app.theme,
    "r": lambda driver: driver.app.feed._wake.is_set() or driver.cluster.asked.count("status"),
}


async def _moves(driver: Driver) -> None:
    app = driver.app
    for key, peer in (("j", "p02"), ("down", "p03"), ("k", "p02"), ("up", "p01")):
        await driver.press(key)
        assert app.scene.selection.peer == peer
    for key, peer in (("G", "p03"), ("g", "p01"), ("end", "p03"), ("home", "p01")):
        await driver.press(key)
        assert app.scene.selection.peer == peer
    for key, peer in (("pagedown", "p03"), ("pageup", "p01")):
        await driver.press(key)
        assert app.scene.selection.peer == peer
    await driver.press("tab")
    assert app.scene.focus["overview"] == "jobs"
    await driver.press("g", "enter")
    assert (app.scene.view, app.scene.selection.job) == ("training", "j01")
    await driver.press("escape", "shift+tab")
    assert (app.scene.view, app.scene.focus["overview"]) == ("overview", "peers")


async def _filters(driver: Driver) -> None:
    await driver.press("slash")
    assert driver.app.query_one(FilterInput).display
    await driver.press(*"node-2q")  # q is a letter here
    assert driver.app.scene.filters["overview"] == "node-2q"
    await driver.press("backspace", "enter")
    await driver.sees("1–1 of 1 peers (2 filtered)", "/ node-2")
    await driver.press("escape")
    await driver.sees("3 peers")
    await driver.press("slash", "x", "escape")
    assert not driver.app.scene.wanted


PROPOSES = {
    "A": "add",
    "X": ("remove", {"peer": "p02"}),
    "K": ("fault", {"kind": "kill", "peer": "p02"}),
    "L": ("transfer", {"peer": "p02"}),
    "N": ("alert.acknowledge", {"alert": "straggler/p01"}),
    "J": ("pause", {"job": "j01"}),
    "C": ("cancel", {"job": "j01"}),
    "W": ("checkpoint", {"job": "j01"}),
    "U": ("unserve", {"model": "serve-1"}),
}
MENUS = {
    "F": ("partition", ("fault", {"kind": "partition", "peer": "p02", "side": ["p02"]})),
    "R": ("step 100", ("restore", {"job": "j01", "step": 100})),
    "T": ("local-sgd", ("set", {"job": "j01", "changes": {"strategy": "local-sgd"}})),
    "Z": ("int16", ("set", {"job": "j01", "changes": {"codec": "int16"}})),
}


def test_the_keys_that_steer_are_all_tried_here() -> None:
    steering = {key.keys for key in KEYS if key.steers}
    assert steering == {*PROPOSES, *MENUS, "S", "M"}


def test_keys_that_steer() -> None:
    async def steer() -> None:
        cluster = FakeCluster(4)
        cluster.alerts = tui_fake_told.storm(1)
        async with screen(cluster) as driver:
            await driver.press("8", "j", "1", "j")
            await driver.until(lambda: driver.app.newest.told.alerts is not None, "alerts")
            await driver.press("8", "g", "1")
            for key, expected in (("N", PROPOSES["N"]), ("W", PROPOSES["W"])):
                await driver.press(key)
                await driver.until(lambda: bool(driver.requests), key)
                assert driver.requests.pop() == expected
            for key in ("X", "K", "L", "C"):
                await driver.press(key)
                assert isinstance(driver.app.screen, ConfirmScreen)
                await driver.press("n")
            for key, (choice, expected) in MENUS.items():
                await _choose(driver, key, choice)
                await driver.press("y")
                await driver.until(lambda: bool(driver.requests), key)
                assert driver.requests.pop() == expected
            await driver.press("0")
            await driver.sees("tales")
            await driver.press("U")
            assert isinstance(driver.app.screen, ConfirmScreen)
            await driver.press("y")
            await driver.until(lambda: bool(driver.requests), "U")
            assert driver.requests.pop() == PROPOSES["U"]
            await driver.press("M", "enter")
            await driver.until(lambda: bool(driver.requests), "M")
            bounds = {"replicas_min": 1, "replicas_max": 2}
            assert driver.requests.pop() == ("serve", {"model": "job:j01", **bounds})
            await driver.press("S")
            assert isinstance(driver.app.screen, LineScreen)
            assert driver.app.screen.query_one(Input).value
            await driver.press("escape")
            assert not driver.requests

    asyncio.run(steer())


async def _choose(driver: Driver, key: str, choice: str) -> None:
    await driver.press(key)
    screen_ = driver.app.screen
    assert isinstance(screen_, ChooseScreen)
    options = screen_.query_one(OptionList)
    names = [one.shown for one in screen_.menu.choices]
    options.highlighted = names.index(choice)
    await driver.press("enter")
    assert isinstance(driver.app.screen, ConfirmScreen)


def test_a_new_alert_is_told_once() -> None:
    async def look() -> None:
        cluster = FakeCluster(3)
        async with screen(cluster) as driver:
            await driver.until(lambda: driver.app.newest.told.alerts is not None, "alerts")
            cluster.alerts = tui_fake_told.storm(2)
            driver.app.feed._due_s.clear()
            await driver.again()
            await driver.sees("1 of 3 voters answers (and 1 more: 8)")
            count = len(driver.app._notifications)
            driver.app.feed._due_s.clear()
            await driver.again()
            assert len(driver.app._notifications) == count

    asyncio.run(look())


def test_a_click_chooses_and_a_tab_changes_the_view() -> None:
    async def click() -> None:
        async with screen(FakeCluster(3), (80, 24)) as driver:
            await driver.until(lambda: driver.app.newest.told.insights is not None, "insights")
            rows = driver.app.query_one(Body).text().split("\n")
            y = next(y for y, row in enumerate(rows) if "node-2" in row and "voter" in row)
            await driver.click("#body", 20, y)
            assert driver.app.scene.selection.peer == "p02"
            await driver.click("#tabs", 12, 0)
            assert driver.app.scene.view == "peers"

    asyncio.run(click())
