"""Every view as text, in every state and at every size, against what is kept in tests/pictures.

python -m tests.tui_pictures        writes them anew: look at the difference before you commit it

One file per view. The live state is kept whole for each size, of the others only the lines that
differ from it.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from tests import tui_fake_told
from tests.tui_fake import FakeCluster
from tui.chat import Answered, Chat, Turn
from tui.feed import Feed
from tui.frame import whole
from tui.scene import Scene
from tui.snapshot import Link, Snapshot
from tui.views.catalog import VIEWS
from tui.wanted import wants

FOLDER = Path(__file__).parent / "pictures"
SIZES = ((80, 24), (120, 40), (200, 60))
RECEIVED_AT = tui_fake_told.NOW
STATES = (
    *("live", "empty", "stale", "disconnected", "paused", "read-only", "alert storm", "no GPU"),
    *("64 peers", "older peer", "nobody"),
)


_ANSWER = "def main() -> None:\n    print('a tale of two peers')\n" + 12 * "and so it went on, "
TALK = Chat(
    turns=(
        Turn(
            *(1, "serve-1", "tales", "def main(", -9.0, _ANSWER, 96, "node-2", -8.5),
            end=Answered("length", "node-2", "r2", 96, 0.52, 7, 1, 0.014),
        ),
        Turn(2, "serve-1", "tales", "go on", -7.0, "and th", 3, "node-1", -6.0, stopped=True),
        Turn(3, "serve-1", "tales", "x" * 200, -5.0, ended_s=-4.9, problem="it is too long"),
        Turn(4, "serve-1", "tales", "Once upon", -2.0, "a time there was", 12, "node-1"),
    )
)


def polled(cluster: FakeCluster) -> Snapshot:
    """What a screen knows that was told everything."""
    feed = Feed(cluster, lambda _: None, clock=lambda: 0.0)

    async def poll() -> None:
        for _ in range(2):  # what there is to choose from is known after the first
            feed.wants = wants(Scene(snapshot=feed.snapshot), every_view=True)
            await feed.poll()

    asyncio.run(poll())
    link = replace(feed.snapshot.link, received_s=0.0, received_at=RECEIVED_AT)
    return replace(feed.snapshot, link=link)


@lru_cache
def scene(state: str) -> Scene:
    if state == "nobody":
        return Scene(snapshot=Snapshot(Link("connecting", "10.0.0.1:7700", "no answer", 2, 3.0)))
    many, none = state == "64 peers", state == "empty"
    cluster = FakeCluster(64 if many else 1 if none else 3, 0 if none else 2)
    cluster.gpus = 0 if state in ("no GPU", "empty") else 2
    cluster.is_older = state == "older peer"
    storm = 40 if state == "alert storm" else 0 if none else 2
    cluster.alerts = tui_fake_told.storm(storm)
    if state == "paused":
        cluster.jobs[1]["state"] = "paused"
    if cluster.jobs:
        told = {"name": "digits-0", "state": "finished", "step": 450, "samples_per_second": 0.0}
        cluster.jobs[0].update(told)
    snapshot = polled(cluster)
    now_s = {"stale": 5.0, "disconnected": 40.0}.get(state, 0.2)
    if state == "disconnected":
        lost = {"state": "lost", "attempt": 4, "retry_at_s": 47.0, "error": "no peer answers"}
        snapshot = replace(snapshot, link=replace(snapshot.link, **lost))  # type: ignore[arg-type]
    chat = Chat() if none else TALK
    frozen, read_only = state == "paused", state == "read-only"
    return Scene(snapshot=snapshot, now_s=now_s, frozen=frozen, read_only=read_only, chat=chat)


def pictures(view: str) -> Iterator[tuple[str, list[str]]]:
    """(name, lines) of every state at every size; 'live' comes first."""
    for width, height in SIZES:
        for state in STATES:
            made = whole(replace(scene(state), view=view), width, height)
            yield f"{width}x{height} {state}", made


def told(view: str) -> str:
    """The file of a view."""
    lines: list[str] = []
    base: list[str] = []
    for name, picture in pictures(view):
        if name.endswith(" live"):
            base = picture
            lines += [f"==== {name}", *picture]
            continue
        lines.append(f"==== {name}: where it differs from live")
        pairs = zip(picture, base, strict=True)
        lines += [f"{y:02}|{now}" for y, (now, was) in enumerate(pairs) if now != was]
    return "\n".join(lines) + "\n"


def write() -> None:
    os.environ["TZ"] = "UTC"
    time.tzset()
    FOLDER.mkdir(exist_ok=True)
    for view in VIEWS:
        (FOLDER / f"{view.name}.txt").write_text(told(view.name), encoding="utf-8")


if __name__ == "__main__":
    write()
