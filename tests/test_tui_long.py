"""Hours before a screen, by a clock that is moved: what it keeps does not grow.

A minute here; `make long-feed` has two hours (TUI_HOURS).
"""

import asyncio
import gc
import os
import sys
from dataclasses import replace

from tests import tui_fake_told
from tests.tui_fake import FakeCluster
from tui.feed import EVENTS_MAX, Feed
from tui.frame import whole
from tui.scene import Scene
from tui.snapshot import Snapshot
from tui.views.catalog import VIEWS
from tui.wanted import wants

HOURS = float(os.environ.get("TUI_HOURS", "0.02"))
POLLS = round(3600 * HOURS)
EVENTS_A_POLL = 70  # so that even a minute brings more than are kept
GROWTH_BLOCKS_MAX = 3000  # of Python's memory; one event too many each second would be 9 of them
STEPS = 100  # then the curve begins anew: a peer keeps no more than so many points either


def test_hours_of_a_busy_cluster_leave_no_trace() -> None:
    cluster = FakeCluster(8, jobs=2)
    cluster.gpus = 2
    now_s = 0.0
    newest: list[Snapshot] = []
    feed = Feed(
        cluster, lambda snapshot: newest.__setitem__(slice(None), [snapshot]), clock=lambda: now_s
    )

    def live(poll: int) -> None:
        cluster.asked.clear()
        for number in range(EVENTS_A_POLL):
            cluster.tell(f"happening {number} of {poll}")
        del cluster.events[:-EVENTS_A_POLL]
        cluster.jobs[0]["step"] = 2 + poll % STEPS
        cluster.jobs[poll % 2]["generation"] += 1
        cluster.peers[poll % 8]["state"] = ("alive", "dead")[poll // 8 % 2]
        cluster.alerts = tui_fake_told.storm(poll % 40)
        cluster.down = poll % 50 == 49

    def draw(poll: int) -> None:
        view = VIEWS[poll % len(VIEWS)].name
        whole(Scene(snapshot=newest[0], now_s=now_s, view=view), 120, 40)

    async def watch(polls: range) -> int:
        nonlocal now_s
        for poll in polls:
            live(poll)
            scene = Scene(snapshot=feed.snapshot)
            feed.wants = replace(wants(scene, every_view=True), peer=f"p{1 + poll % 8:02}")
            await feed.turn()
            now_s += 1.0
            if poll % 10 == 0:
                draw(poll)
        gc.collect()
        return sys.getallocatedblocks()

    async def both() -> tuple[int, int]:
        return await watch(range(POLLS // 2)), await watch(range(POLLS // 2, POLLS))

    early, late = asyncio.run(both())
    assert len(feed.snapshot.events) == EVENTS_MAX
    assert late - early < GROWTH_BLOCKS_MAX, f"{early:,} blocks after half of it, then {late:,}"
