"""What serving costs and how it holds: replicas, routing, starts, deaths, beside their goals.

  loop      one replica beside a plain PyTorch loop with a cache; many streams beside one
  ready     from `serve` to the first token of an answer, with a warm spare
  routing   to the first token: asked at the peer of the replica, and at another one
  replicas  tokens per second of two replicas beside one, through peers
  memory    of a peer with --slots 0 that routes many streams
  failover  the pause in a stream whose replica, or its peer, or the peer asked, is killed with -9

Within a part, what is compared takes turns. Goals are judged by medians. Exit code 1 when one is
missed, or when an answer is not what an undisturbed replica gives.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from p2p.errors import P2PError
from tools.bench.serving import failover, first_token, loop, replicas
from tools.bench.serving.cluster import Serving
from tools.bench.serving.figures import Part

OF_A_CLUSTER: dict[str, Callable[[Serving, argparse.Namespace], Part]] = {
    "ready": first_token.ready,
    "routing": first_token.routing,
    "replicas": replicas.measure,
    "memory": replicas.memory,
    "failover": failover.measure,
}
PARTS = ("loop", *OF_A_CLUSTER)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    for name, default in {"width": 128, "layers": 4, "heads": 4, "context": 128}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"of loop's ({default})")
    parser.add_argument("--streams", type=int, default=16, help="of loop, at the same time (16)")
    parser.add_argument("--rounds", type=int, default=5, help="of loop and replicas (5)")
    parser.add_argument("--starts", type=int, default=5, help="of ready, of each kind (5)")
    parser.add_argument("--prompts", type=int, default=200, help="of routing, of each kind (200)")
    parser.add_argument("--kills", type=int, default=5, help="of failover, of each kind (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    chosen = parser.parse_args(arguments)
    names = [name for name in chosen.only.split(",") if name]
    if not set(names) <= set(PARTS):
        parser.error(f"--only: there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    try:
        parts = _run(names, chosen)
    except P2PError as error:
        print(f"PROBLEM: {error}", file=sys.stderr)
        return 1
    if chosen.json:
        told = {"schema": 1, "cores": os.cpu_count(), "parts": parts}
        chosen.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0 if all(part["is_well"] for part in parts.values()) else 1


def _run(names: list[str], chosen: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Raises P2PError."""
    done: dict[str, dict[str, object]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if "loop" in names:  # forks, so before there are threads
            done["loop"] = _told("loop", lambda: loop.measure(folder, chosen))
        rest = {name: part for name, part in OF_A_CLUSTER.items() if name in names}
        if not rest:
            return done
        serving = stack.enter_context(Serving(folder))
        for name, part in rest.items():
            done[name] = _told(name, lambda part=part: part(serving, chosen))  # type: ignore[misc]
    return done


def _told(name: str, measure: Callable[[], Part]) -> dict[str, object]:
    began_s, load = time.monotonic(), os.getloadavg()[0]
    print(f"\n== {name}: load average {load:.1f} on {os.cpu_count()} cores", flush=True)
    part = measure()
    for line in part.printed():
        print(line)
    seconds = time.monotonic() - began_s
    print(f"({name}: {seconds:.0f} s, load average now {os.getloadavg()[0]:.1f})", flush=True)
    told = {"seconds": seconds, "load_average": load, "is_well": part.is_well}
    return {**told, **part.to_json()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
