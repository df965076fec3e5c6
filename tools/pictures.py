"""python -m tools.pictures: the pictures of p2ptui in docs/pictures, of a real cluster, as SVG.

Four peers train; one is killed and another comes, so that there is something to see. The screen
runs without a terminal, attached like any other. Look at what came out before you commit it.
"""

import argparse
import asyncio
import subprocess
import sys
from pathlib import Path

from p2p.client import Client
from p2p.local_cluster import LocalCluster
from p2p.storage.disk import write_output
from tui.app import ClusterApp
from tui.connect import ClusterSource

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
SIZE = (120, 36)
VIEWS = {"overview": 1, "peers": 2, "training": 3, "data": 4}
NAMES = ("amber", "birch", "cedar", "dune", "elm")
PATIENCE_S = 180.0


async def told(client: Client, job: str, step: int) -> None:
    """Wait until the job is at this step."""
    async with asyncio.timeout(PATIENCE_S):
        while (await client.request("job", job=job))["step"] < step:
            await asyncio.sleep(0.2)


async def take(folder: Path) -> None:
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
            token = cluster.peers[0].told["token_file"]
            await photograph(ClusterSource(cluster.peers[0].address, token), folder)
        finally:
            await client.close()


async def photograph(source: ClusterSource, folder: Path) -> None:
    app = ClusterApp(source, interval_s=0.5)
    try:
        async with app.run_test(size=SIZE) as pilot, asyncio.timeout(PATIENCE_S):
            for view, digit in VIEWS.items():
                await pilot.press(str(digit))
                # Twice what the rarest request of a view takes to come round.
                shown = app.feed.snapshot.link.received_s or 0.0
                while (app.feed.snapshot.link.received_s or 0.0) < shown + 8.0:
                    await pilot.pause(0.1)
                svg = app.export_screenshot(title=f"p2ptui: {view}")
                file = folder / f"{view}.svg"
                write_output(file, [svg.encode()])
                file.chmod(0o644)
                print(f"{file}  {len(svg) / 1e3:.0f} KB", flush=True)
    finally:
        await source.close()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="(docs/pictures)")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(chosen.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
