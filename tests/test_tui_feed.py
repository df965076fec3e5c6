"""The feed: newest value, loss of connection, backoff, and what it asks for."""

import asyncio
import random
from typing import Any

import pytest

from p2p.errors import P2PError, Refused
from tests.tui_fake import FakeCluster
from tui.feed import BACKOFF_MAX_S, Feed
from tui.snapshot import Snapshot


def make(cluster: FakeCluster) -> tuple[Feed, list[Snapshot], list[float]]:
    shown: list[Snapshot] = []
    now = [0.0]
    feed = Feed(cluster, shown.append, 1.0, random.Random(1), lambda: now[0])
    return feed, shown, now


def test_one_poll_gives_everything_and_the_status_first() -> None:
    cluster = FakeCluster(3)
    feed, shown, _ = make(cluster)
    asyncio.run(feed.poll())
    assert cluster.asked == ["status", "events", "job", "history"]
    assert shown[0].status is not None
    assert not shown[0].events
    assert len(shown[-1].events) == len(cluster.events)
    assert shown[-1].detail is not None
    assert len(shown[-1].detail.points) == 120


def test_events_come_once_and_the_curve_only_when_the_job_moved() -> None:
    cluster = FakeCluster(3)
    feed, _, now = make(cluster)

    async def polls() -> None:
        await feed.poll()
        cluster.asked.clear()
        cluster.tell("more")
        now[0] = 10.0
        await feed.poll()
        assert cluster.asked == ["status", "events"]
        cluster.jobs[0]["step"] += 1
        await feed.poll()
        assert cluster.asked[2:] == ["status", "events", "job", "history"]
        cluster.asked.clear()
        cluster.jobs[0]["step"] += 1
        await feed.poll()  # at once again: the curve may wait
        assert cluster.asked == ["status", "events"]

    asyncio.run(polls())
    indices = [event.index for event in feed.snapshot.events]
    assert indices == sorted(set(indices))
    assert indices[-1] == len(cluster.events)


def test_a_lost_connection_keeps_the_data_and_backs_off_up_to_a_limit() -> None:
    cluster = FakeCluster(3)
    feed, _, now = make(cluster)

    async def polls() -> list[float]:
        await feed.turn()
        cluster.down = True
        delays = []
        for _ in range(12):
            delays.append(await feed.turn())
            now[0] += delays[-1]
        return delays

    delays = asyncio.run(polls())
    link = feed.snapshot.link
    assert (link.state, link.attempt) == ("lost", 12)
    assert "no peer answers" in link.error
    assert feed.snapshot.status is not None
    for attempt, delay in enumerate(delays):
        full = min(BACKOFF_MAX_S, 0.5 * 2**attempt)
        assert full / 2 <= delay <= full
    cluster.down = False
    cluster.attached = "10.0.0.2:7700"
    assert asyncio.run(feed.turn()) == 1.0
    assert feed.snapshot.link.state == "live"
    assert feed.snapshot.link.attempt == 0
    assert feed.snapshot.link.address == "10.0.0.2:7700"


@pytest.mark.parametrize("error", [Refused("the key was refused"), OSError("x"), ValueError()])
def test_no_error_ends_the_feed(error: Exception) -> None:
    class Failing(FakeCluster):
        async def request(self, verb: str, /, **args: Any) -> dict[str, Any]:
            raise error

    feed, shown, _ = make(Failing())
    assert asyncio.run(feed.turn()) < 1.0
    assert shown[-1].link.state == "connecting"
    assert shown[-1].link.error


def test_a_verb_the_peer_does_not_know_costs_the_curve_only() -> None:
    class Older(FakeCluster):
        async def request(self, verb: str, /, **args: Any) -> dict[str, Any]:
            if verb == "history":
                raise P2PError("this peer does not know the request 'history'")
            return await super().request(verb, **args)

    feed, shown, _ = make(Older())
    assert asyncio.run(feed.turn()) == 1.0
    assert shown[-1].link.state == "live"
    assert shown[-1].detail is None


def test_another_cluster_behind_the_address_starts_afresh() -> None:
    cluster = FakeCluster(3)
    feed, _, _ = make(cluster)

    async def polls() -> None:
        await feed.poll()
        cluster.cluster_id = "other"
        cluster.events = cluster.events[:1]
        await feed.poll()

    asyncio.run(polls())
    assert len(feed.snapshot.events) == 1


def test_a_nudge_ends_the_wait_at_once() -> None:
    cluster = FakeCluster(3)
    feed, shown, _ = make(cluster)
    feed.interval_s = 3600.0

    async def nudged() -> None:
        task = asyncio.ensure_future(feed.run())
        while cluster.asked.count("history") < 1:
            await asyncio.sleep(0)
        feed.nudge()
        while cluster.asked.count("status") < 2:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(asyncio.wait_for(nudged(), 10))
    assert shown
