"""python -m tools.pictures [--only VIEW]: p2ptui for docs/pictures, of real clusters, as SVG.

Four peers train; one is killed and another comes, so that there is something to see. Two others
train a small language model, and are asked. The screen runs without a terminal, attached like any
other. Look at what came out before you commit it.
"""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from p2p.client import Client
from p2p.local_cluster import LocalCluster
from p2p.storage.disk import write_output
from tui.app import ClusterApp
from tui.connect import ClusterSource
from tui.panes.models import figures

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
SIZE = (120, 36)
TRAINING = {"overview": 1, "peers": 2, "training": 3, "data": 4}
ASKING = "prompt"
MODEL = {"width": "64", "layers": "2", "heads": "4", "schedule": "cosine"}
STEPS = 200
OPTIONS = "--temperature 0.7 --max-tokens 100 --seed 7"
PROMPTS = ("def main(", "import ")
NAMES = ("amber", "birch", "cedar", "dune", "elm")
VIEWS = (*TRAINING, ASKING)
PATIENCE_S = 900.0


async def told(client: Client, job: str, step: int) -> None:
    """Wait until the job is at this step."""
    async with asyncio.timeout(PATIENCE_S):
        while (await client.request("job", job=job))["step"] < step:
            await asyncio.sleep(0.2)


async def train(folder: Path, views: list[str]) -> None:
    with LocalCluster() as cluster:
        for name in NAMES[:4]:
            cluster.start("--name", name, "--slots", "1")
        register = ("data", "register", "digits", "digits", "--peer", cluster.peers[0].address)
        subprocess.run(
            [sys.executable, "-P", "-m", "p2p.cli", *register],
            env=cluster.environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        client = cluster.client()
        try:
            job = (await client.request("submit", task="digits", epochs=120, name="digits"))["job"]
            await told(client, job, 250)
            leader = (await client.request("status"))["cluster"]["leader"]
            next(peer for peer in cluster.peers[1:] if peer.id != leader).kill()
            await told(client, job, 500)
            cluster.start("--name", NAMES[4], "--slots", "1")
            await told(client, job, 800)
            async with screen(cluster) as (pilot, app):
                for view in views:
                    await pilot.press(str(TRAINING[view]))
                    await shown(pilot, app)
                    keep(app, folder, view)
        finally:
            await client.close()


async def ask(folder: Path) -> None:
    with LocalCluster() as cluster:
        for name, slots in zip(NAMES, ("0", "1", "1"), strict=False):
            cluster.start("--name", name, "--slots", slots)
        client = cluster.client()
        try:
            asked = {"task": "textgpt", "name": "tales", "steps": STEPS, "options": MODEL}
            job = (await client.request("submit", **asked))["job"]
            await told(client, job, STEPS)
            bounds = {"replicas_min": 2, "replicas_max": 2}
            await client.request("serve", model=f"job:{job}", **bounds)
            async with asyncio.timeout(PATIENCE_S):
                while len((await client.request("models"))["models"][0]["replicas"]) < 2:
                    await asyncio.sleep(0.2)
        finally:
            await client.close()
        async with screen(cluster) as (pilot, app):
            await pilot.press("0", "o", *OPTIONS, "enter")
            await shown(pilot, app)
            await pilot.press("i")
            for prompt in PROMPTS:
                await pilot.press(*prompt, "enter")
                while app.scene.chat.open is not None:
                    await pilot.pause(0.1)
            model = app.scene.model
            while model and not any(figures(app.scene, model, "requests_per_s")):
                await pilot.pause(0.05)  # measured a second later, and shown for a second
            keep(app, folder, ASKING)


@asynccontextmanager
async def screen(cluster: LocalCluster) -> AsyncIterator[tuple[Pilot[Any], ClusterApp]]:
    """Attached to the first peer, for as long as somebody has patience."""
    first = cluster.peers[0]
    source = ClusterSource(first.address, first.told["token_file"])
    app = ClusterApp(source, interval_s=0.5)
    try:
        async with app.run_test(size=SIZE) as pilot, asyncio.timeout(PATIENCE_S):
            yield pilot, app
    finally:
        await source.close()


async def shown(pilot: Pilot[Any], app: ClusterApp) -> None:
    """Twice what the rarest request of a view takes to come round."""
    feed = app.feed
    since_s = feed.snapshot.link.received_s or 0.0
    while (feed.snapshot.link.received_s or 0.0) < since_s + 8.0:
        await pilot.pause(0.1)


def keep(app: ClusterApp, folder: Path, view: str) -> None:
    svg = app.export_screenshot(title=f"p2ptui: {view}")
    file = folder / f"{view}.svg"
    write_output(file, [svg.encode()])
    file.chmod(0o644)
    print(f"{file}  {len(svg) / 1e3:.0f} KB", flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument("--only", metavar="VIEW", action="append", help="(all)", choices=VIEWS)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="(docs/pictures)")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    wanted = chosen.only or VIEWS
    if training := [view for view in wanted if view in TRAINING]:
        asyncio.run(train(chosen.folder, training))
    if ASKING in wanted:
        asyncio.run(ask(chosen.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
