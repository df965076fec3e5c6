"""What `auto` chooses: two real peers in two network namespaces, on a line that changes its rate.

Each phase limits the line to so many Mbit/s in each direction; what was chosen when is told by the
cluster's own events, beside the steps per second that the job then made. Needs root.
"""

import argparse
import asyncio
import sys
import time
from typing import Any

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from tools.bench import kills
from tools.bench.namespaces import ADDRESSES, Line

LOOK_EVERY_S = 0.2
SPEC: dict[str, Any] = {
    "task": "textgpt",
    "strategy": "auto",
    "global_batch": 2,
    "shards": 2,
    "steps": 1_000_000,
    "options": {"width": "128", "layers": "4", "heads": "4", "context": "64"},
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench auto",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mbit", default="50,10000", help="of one phase after the other")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase (60)")
    chosen = parser.parse_args(arguments)
    rates = [int(word) for word in chosen.mbit.split(",")]
    try:
        with Line(rates[0]) as line:
            asyncio.run(watch(line, rates, chosen.seconds))
    except P2PError as error:
        print(f"PROBLEM: {error}", file=sys.stderr)
        return 1
    return 0


async def watch(line: Line, rates: list[int], seconds: float) -> None:
    """Raises P2PError."""
    with LocalCluster() as cluster:
        line.start_peers(cluster)
        await kills.settle(cluster, len(ADDRESSES))
        client = cluster.client()
        try:
            job = (await client.request("submit", **SPEC, peers_min=2))["job"]
            while (await client.request("job", job=job))["step"] == 0:
                await asyncio.sleep(LOOK_EVERY_S)
            began = time.monotonic()
            for rate in rates:
                line.limit(rate)
                print(f"{time.monotonic() - began:6.1f} s  line of {rate} Mbit/s", flush=True)
                await _phase(client, job, began, seconds)
        finally:
            await client.close()


async def _phase(client: Client, job: str, began: float, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        told = await client.request("job", job=job)
        number, step, from_s = told["generation"], told["step"], time.monotonic()
        while time.monotonic() < until and told["generation"] == number:
            await asyncio.sleep(LOOK_EVERY_S)
            told = await client.request("job", job=job)
        now_s = time.monotonic()
        before = next(made for made in told["generations"] if made["number"] == number)
        rate = (told["step"] - step) / (now_s - from_s)
        method = f"{before['strategy']} with {before['codec']}"
        print(f"{now_s - began:6.1f} s  {method}: {rate:.2f} steps/s")
        if told["generation"] != number:
            print(f"{now_s - began:6.1f} s  {told['generations'][-1]['reason']}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
