"""The screen of a demonstration: its caption, the view worth watching, any key stops it."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from p2p.errors import P2PError, Unreachable
from p2p.scenarios import news
from tests.test_tui_app import Driver
from tests.tui_fake import FakeCluster
from tui import caption, demo, demo_app
from tui.palette import DARK
from tui.scene import Scene, text_of

BEGINS = news.Begins("partition", "the network splits", 5, 9, 13)
CLUSTER = news.Cluster(("127.0.0.1:1",), "/tmp/token")
CAPTION = news.Caption(4, 13, "The network splits", "the two others", "training")


class Scripted:
    """In place of the process: tells this, then waits until it is stopped."""

    script: tuple[news.News, ...] = (BEGINS, CLUSTER, CAPTION, news.Fact("c leads term 3"))
    problem = ""
    closed = 0

    def __init__(self, arguments: list[str], tell: Callable[[Mapping[str, Any]], None]) -> None:
        self.report: dict[str, Any] | None = None
        self._tell = tell

    async def play(self) -> None:
        for one in self.script:
            self._tell(news.to_wire(one))
        if self.problem:
            raise P2PError(self.problem)
        await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        Scripted.closed += 1


class Fake(FakeCluster):
    def __init__(self, addresses: str, token_file: str) -> None:
        super().__init__(3)

    async def close(self) -> None:
        pass


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_app, "Demo", Scripted)
    monkeypatch.setattr(demo, "ClusterSource", Fake)
    monkeypatch.setattr(Scripted, "closed", 0)
    monkeypatch.setattr(caption, "READ_S", {})  # nobody reads it


@pytest.mark.usefixtures("fakes")
def test_a_caption_over_the_view_worth_watching_and_any_key_stops() -> None:
    async def look() -> None:
        app = demo_app.DemoApp(["--scenario", "all"], True)
        async with app.run_test(size=(100, 30)) as pilot:
            driver = Driver(pilot, FakeCluster(3))
            await driver.sees(" DEMO The network splits", "partition 5/9   step 4/13")
            await driver.sees("watch: the two others", "c leads term 3", "any key stops")
            assert app.scene.view == "training"
            await driver.sees("generations", "node-2")
            app.simulate_key("K")  # not the key's own meaning
            while not app._exit:
                await pilot.pause(0.01)
        await app.close()
        assert (app.return_code, app.failed) == (0, "")
        assert Scripted.closed == 1

    asyncio.run(look())


@pytest.mark.usefixtures("fakes")
def test_a_demonstration_that_cannot_go_on_ends_with_its_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Scripted, "problem", "no room on the disk")

    async def look() -> None:
        app = demo_app.DemoApp(["--scenario", "all"], True)
        async with app.run_test(size=(80, 24)) as pilot:
            while not app._exit:
                await pilot.pause(0.01)
        assert app.failed == "no room on the disk"

    asyncio.run(look())


@pytest.mark.usefixtures("fakes")
def test_between_two_clusters_nobody_answers() -> None:
    async def ask() -> None:
        source = demo.DemoSource()
        with pytest.raises(Unreachable, match="being started"):
            await source.request("status")
        assert source.told(news.to_wire(CLUSTER))
        assert (await source.request("status"))["schema"] == 1
        assert not source.told(news.to_wire(BEGINS))
        with pytest.raises(Unreachable):
            await source.request("status")

    asyncio.run(ask())


def test_the_caption_follows_the_news_and_fits_any_width() -> None:
    shown = caption.Caption()
    scene = Scene(palette=DARK)
    said = []
    checked = news.Checked(False, "b and c both said that they lead term 3")
    for one in (BEGINS, CLUSTER, CAPTION, checked, news.Ends("partition", False, "it broke")):
        shown = caption.told(shown, news.to_wire(one))
        for width in (80, 120):
            lines = caption.first(shown, scene, width), caption.second(shown, scene, width)
            assert [len(text_of(line)) for line in lines] == [width, width]
        said.append(text_of(caption.first(shown, scene, 100)).strip())
    assert said[:3] == ["DEMO the network splits"] * 2 + ["DEMO The network splits"]
    assert said[3].endswith("b and c both said that they lead term 3")
    assert said[4].endswith("it broke")
    assert not shown.ok


SCREEN = """
import asyncio, sys
from tui.demo import Demo
asyncio.run(Demo(["--scenario", sys.argv[1]], lambda told: print(told, flush=True)).play())
"""


@pytest.mark.processes
def test_peers_and_folder_are_gone_soon_after_a_kill_9_of_the_screen(short_path: Path) -> None:
    mine = Path(__file__).parent / "scenario_quorum.toml"
    screen = subprocess.Popen(
        [sys.executable, "-c", SCREEN, str(mine)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(short_path)},
    )
    assert screen.stdout is not None
    with screen.stdout as told:
        while "leads term" not in told.readline():
            assert screen.poll() is None
        assert len(players_and_peers(short_path)) >= 2
        assert list(short_path.iterdir())
        screen.kill()
    screen.wait()
    deadline_s = time.monotonic() + 30.0
    while players_and_peers(short_path) or list(short_path.iterdir()):
        assert time.monotonic() < deadline_s, (
            players_and_peers(short_path),
            list(short_path.iterdir()),
        )
        time.sleep(0.05)


def players_and_peers(folder: Path) -> list[str]:
    """Command lines of the processes that were started with this folder for temporary files."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("TMPDIR") == str(folder)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
