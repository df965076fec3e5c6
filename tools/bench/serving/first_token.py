"""How soon the first token of an answer comes: after `serve`, and after a prompt."""

import argparse
import time

from p2p.local_cluster import LocalPeer
from tools.bench.serving.cluster import Serving, scanned
from tools.bench.serving.figures import HEADS, Goal, Part, spread, told
from tools.bench.serving.replica import LARGE, SMALL, Replica, Size

READY_GOAL_S = 1.0
ROUTING_GOAL_MS = 2.0


def ready(serving: Serving, chosen: argparse.Namespace) -> Part:
    """`serve` is sent, then at once a prompt, which waits at its peer for the replica.

    Before `serve FILE` the peer that is asked hashes the file; `serve job:JOB` has no such time.
    """
    with serving.served(SMALL, 2):
        pass  # now both spares are warm
    first = min(serving.hosts, key=lambda peer: str(peer.told["name"]))
    kinds = {
        "0.9 million, file at the peer": (SMALL, first),
        "24 million, 97 MB, file at the peer": (LARGE, first),
        "24 million, 97 MB, file elsewhere": (LARGE, serving.front),
    }
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(chosen.starts):
        for kind, (size, at) in kinds.items():
            found[kind].append(_started(serving, size, at))
    lines = [f"{'from `serve` to the first token, s':38}{HEADS}{'hashed in':>11}"]
    rows, goals = [], []
    for kind, each in found.items():
        answers, scans = spread([s for s, _ in each]), spread([s for _, s in each])
        lines.append(f"{kind:38}{told(answers)}{scans['median']:11.2f}")
        rows.append({"kind": kind, "first_token_s": answers, "scan_s": scans})
        if kinds[kind][1] is first:
            goals.append(Goal(f"{kind}: an answer", answers["median"], READY_GOAL_S, "s"))
    return Part(rows, goals, lines)


def _started(serving: Serving, size: Size, at: LocalPeer) -> tuple[float, float]:
    """Seconds to the first token, and those that hashing took before."""
    order = serving.order(size)
    with serving.door(at) as door:
        began_s = time.perf_counter()
        files = scanned(door, size.saved(serving.folder))
        hashed_s = time.perf_counter()
        service = str(door.ask("serve", **order, **files)["job"])
        door.first_token_s(service)
        taken_s = time.perf_counter() - hashed_s
    serving.unserve(service)
    return taken_s, hashed_s - began_s


def routing(serving: Serving, chosen: argparse.Namespace) -> Part:
    """An answer of one token, asked in turns: of a replica without peers, at the peer whose child
    the replica is, and at one without.
    """
    alone = Replica.of_textgpt(SMALL, SMALL.saved(serving.folder))
    alone.ready()
    found: dict[str, list[float]] = {
        kind: [] for kind in ("replica, no peer", "at its peer", "at another peer")
    }
    with serving.served(SMALL) as service:
        models = serving.wait("models", lambda told: bool(told["models"][0]["replicas"]))
        host_id = models["models"][0]["replicas"][0]["peer"]
        host = next(peer for peer in serving.hosts if peer.id == host_id)
        with serving.door(host) as direct, serving.door() as routed:
            for number in range(chosen.prompts + 10):
                each = (
                    alone.first_token_s(),
                    direct.first_token_s(service),
                    routed.first_token_s(service),
                )
                for kind, taken_s in zip(found, each, strict=True):
                    if number >= 10:  # the first ones warm up
                        found[kind].append(taken_s)
    alone.end()
    lines = [f"{'to the first token, ms':38}{HEADS}"]
    rows = []
    for kind, each_s in found.items():
        lines.append(f"{kind:38}{told(spread(each_s), 1e3)}")
        rows.append({"kind": kind, "first_token_s": spread(each_s)})
    base, _, other = (spread(each_s)["median"] for each_s in found.values())
    goal = Goal(
        "peers and routing add to the first token", 1e3 * (other - base), ROUTING_GOAL_MS, "ms"
    )
    return Part(rows, [goal], lines)
