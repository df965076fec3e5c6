"""Recordings: what was shown can be shown again, at any moment, and nothing can be steered."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from p2p.errors import Refused, Usage
from tests.test_tui_app import Driver
from tests.tui_fake import FakeCluster
from tui.app import ClusterApp
from tui.feed import Feed
from tui.scene import Scene
from tui.tape import Recorder, Replay
from tui.wanted import wants


def recorded(path: Path, polls: int = 5) -> None:
    """A job that goes on, a peer that dies in the midst."""

    async def record() -> None:
        cluster = FakeCluster(3)
        recorder = Recorder(cluster, str(path))
        feed = Feed(recorder, lambda _: None, interval_s=0.0)
        for poll in range(polls):
            feed.wants = wants(Scene(snapshot=feed.snapshot), every_view=True)
            cluster.jobs[0]["step"] = 100 + 10 * poll
            if poll == 3:
                cluster.peers[2]["state"] = "dead"
                cluster.tell("node-3 is dead", "error")
            await feed.poll()
        recorder.close()

    asyncio.run(record())


def test_every_moment_is_shown_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    recorded(path)
    replay = Replay(str(path))
    replay.is_playing = False

    async def look() -> list[tuple[int, str, int]]:
        seen = []
        for place in (0, 4, 2, 3):
            replay.seek_part(place / 4)
            assert replay.reel.position == place
            feed = Feed(replay, lambda _: None)
            for _ in range(2):
                feed.wants = wants(Scene(snapshot=feed.snapshot), every_view=True)
                await feed.poll()
            status, told = feed.snapshot.status, feed.snapshot.told
            assert status is not None
            assert feed.snapshot.detail is not None
            assert told.datasets
            # The first poll of a recording does not know yet what there is to ask for.
            assert place == 0 or told.series
            step = status.jobs[0].step
            seen.append((step, status.peers[2].state, len(feed.snapshot.events)))
        return seen

    seen = asyncio.run(look())
    assert seen == [(100, "alive", 4), (140, "dead", 5), (120, "alive", 4), (130, "dead", 5)]
    replay.close()


def test_a_replay_is_played_and_moved_by_keys_and_steers_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    recorded(path)

    async def look() -> None:
        replay = Replay(str(path))
        app = ClusterApp(replay, interval_s=60.0, replay=replay)
        async with app.run_test(size=(120, 40)) as pilot:
            driver = Driver(pilot, FakeCluster(0, 0))
            await driver.sees("READ-ONLY", "replay 2", "/5")
            replay.seek_part(0.0)
            await driver.press("right_square_bracket")
            await driver.sees("110/450", "2/5")
            await driver.press("left_square_bracket")
            await driver.sees("100/450", "1/5")
            await driver.press("X", "S")
            await driver.sees("this screen is read-only")
            await driver.press("0")
            await driver.sees("tales", "this is a recording: nobody answers in it")
            await driver.press("i", "1")  # no line to type in: a key
            assert app.scene.view == "overview"
            await driver.click("#reel", 119, 0)
            await driver.sees("140/450", "✖ dead", "5/5")
            await driver.press("p")  # from the beginning, for the end was reached
            await driver.until(lambda: replay.reel.position == 4, "the end once more")
            await driver.until(lambda: not replay.is_playing, "it stops by itself")
        replay.toggle()
        assert (replay.is_playing, replay.reel.position) == (True, 0)
        replay.close()

    asyncio.run(look())


def test_what_is_no_recording_is_said(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(Usage, match="cannot read"):
        Replay(str(path))
    for text in ("", "hello\n", '{"p2ptui": "recording", "version": 1}\n'):
        path.write_text(text)
        with pytest.raises(Usage, match=r"no recording|nothing in it"):
            Replay(str(path))
    with pytest.raises(Usage, match="cannot record"):
        Recorder(FakeCluster(1), str(path))  # never over a file that is there


@pytest.mark.parametrize("cut", [1, 40, 700, 5000])
def test_a_recording_that_was_cut_off_is_shown_as_far_as_it_goes(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "tape"
    recorded(path)
    path.write_bytes(path.read_bytes()[:-cut])
    replay = Replay(str(path))

    async def last() -> dict[str, Any]:
        replay.seek_part(1.0)
        with pytest.raises(Refused):
            await replay.request("remove", peer="p01")
        return await replay.request("status")

    assert asyncio.run(last())["peers"]
    replay.close()
