"""What the cluster of tests/tui_fake.py answers beyond status, events and the job."""

import math
from typing import Any

Answer = dict[str, Any]
NOW = 1_790_000_600.0


def gpu(number: int) -> Answer:
    return {
        "uuid": f"GPU-{number}",
        "name": "NVIDIA L4",
        "memory_total": 24_000_000_000,
        "memory_used": 6_000_000_000 + 1_000_000_000 * number,
        "utilization": 40.0 + 7 * number,
    }


def devices(peers: list[Answer], gpus: int) -> Answer:
    rows = [
        {**peer, "device": "cuda" if gpus else "cpu", "gpus": [gpu(i) for i in range(gpus)]}
        for peer in peers
    ]
    return {"peers": rows}


def latest(peers: list[Answer], jobs: list[Answer], models: list[Answer]) -> Answer:
    told = {}
    for number, peer in enumerate(peers):
        figures = {
            "system.cpu_percent": 30.0 + number,
            "system.disk_free_bytes": 50e9,
            "link.worst_round_trip_s": 0.0007 * (1 + number),
            "link.worst_loss_percent": 0.0,
        }
        for job in jobs:
            if peer["id"] in job["members"]:
                figures[f"job.{job['id']}.step"] = job["step"]
                figures[f"job.{job['id']}.step_s"] = 0.018
                figures[f"job.{job['id']}.compute_s"] = 0.011 + 0.001 * number
                figures[f"job.{job['id']}.barrier_s"] = 0.006
                figures[f"job.{job['id']}.wire_bytes_per_s"] = 410_000.0 + 7_000 * number
        for model in models:
            if model["replicas"]:
                figures[f"serve.{model['id']}.requests_per_s"] = 2.5 + number
                figures[f"serve.{model['id']}.tokens_per_s"] = 310.0 + number
                figures[f"serve.{model['id']}.waiting"] = 3.0 * (number == 0)
                figures[f"serve.{model['id']}.first_token_s"] = 0.012 + 0.001 * number
        told[peer["id"]] = figures
    return {"latest": told}


def models(peers: list[Answer]) -> list[Answer]:
    """One that answers, and one that is being loaded."""
    answering: Answer = {
        "id": "serve-1",
        "name": "tales",
        "source": "job:j01",
        "state": "running",
        "reason": "",
        "replicas_min": 1,
        "replicas_max": 2,
        "target": 2,
        "device": "auto",
        "revision": 3,
        "step": 240,
        "state_hash": None,
        "bytes": 3_600_000,
        "model": {"name": "textgpt", "parameters": 900_000, "context": 128, "digest": "ab12"},
        "replicas": [
            {"peer": told["id"], "peer_name": told["name"], "replica": f"r{at}", "revision": 3}
            for at, told in enumerate(peers[:2], start=1)
        ],
        "loading": [],
        "excluded": {},
    }
    loading = {
        "id": "serve-2",
        "name": "chat",
        "source": "hf:/models/chat",
        "state": "starting",
        "reason": "node-3 loads it",
        "target": 1,
        "revision": 1,
        "step": 0,
        "model": None,
        "replicas": [],
        "loading": ["p03"],
    }
    return [answering, {**answering, **loading}]


def series(peer: str, names: list[str], gpus: int) -> Answer:
    """Five minutes of waves, one point a second."""
    made = {}
    for at, name in enumerate(names):
        if name.startswith("gpu.") and not gpus:
            continue
        real = name.replace("gpu.*", "gpu.0").replace("link.*", "link.p02")
        scale = _scale(name)
        points = []
        for second in range(0, 300, 2):
            value = scale * (0.5 + 0.3 * math.sin(second / (20 + 3 * at)) + 0.05 * (second % 3))
            points.append([NOW - 300 + second, 0.9 * value, 1.1 * value, value, value])
        made[real] = {"unit": "", "points": points}
    return {"peer": peer, "resolution": 1, "series": made, "left_off": []}


def _scale(name: str) -> float:
    for end, scale in (
        ("percent", 60.0),
        ("bytes", 40e6),
        ("bytes_per_s", 3e6),
        ("_per_s", 8.0),
        ("_s", 0.02),
    ):
        if name.endswith(end):
            return scale
    return 500.0


def alert(number: int, **changes: Any) -> Answer:
    return {
        "id": f"straggler/p{number:02}",
        "rule": "straggler",
        "severity": "warning",
        "peer": f"p{number:02}",
        "job": "j01",
        "since": NOW - 10 * number,
        "text": f"node-{number} is 2.1x slower than the median",
        "acknowledged": False,
        "resolved_at": None,
        **changes,
    }


def storm(count: int) -> list[Answer]:
    """Many at once, of every kind."""
    grave = {"severity": "critical", "rule": "no-quorum", "text": "1 of 3 voters answers"}
    kinds: list[Answer] = [grave, {}, {"acknowledged": True}, {"resolved_at": NOW}, {}]
    return [alert(i + 1, **kinds[i % len(kinds)]) for i in range(count)]


def health(peers: list[Answer], alerts: list[Answer]) -> Answer:
    lost = 8.0 * sum(told["resolved_at"] is None for told in alerts[:8])
    parts = [
        {"name": "agreement", "points": 40.0, "of": 40.0, "why": "3 of 3 voters answer"},
        {"name": "training", "points": 60.0 - lost, "of": 60.0, "why": "a straggler"},
    ]
    whole = {"score": 100.0 - lost, "parts": parts}
    rows = [
        {"peer": peer["id"], **whole, "score": 100.0 if peer["state"] == "alive" else 0.0}
        for peer in peers
    ]
    return {"cluster": whole, "peers": rows}


def insights() -> Answer:
    return {
        "insights": [
            {
                "text": "node-3 is 2.1x slower than the median: shards moved, 11 % lost",
                "metric": "job.j01.compute_s",
                "value": 0.023,
                "threshold": 0.016,
                "command": "p2pnode remove node-3",
            }
        ],
        "scaling": [
            {
                "job": job,
                "name": "digits",
                "speeds": [
                    {"trainers": 1, "samples_per_second": 2310.0, "base": 1, "efficiency": 1.0},
                    {"trainers": 2, "samples_per_second": 4020.0, "base": 1, "efficiency": 0.87},
                    {"trainers": 3, "samples_per_second": 4710.0, "base": 1, "efficiency": 0.68},
                ],
            }
            for job in ("j01", "j02")
        ],
    }


def datasets() -> Answer:
    row = {
        "name": "digits",
        "format": "npz",
        "samples": 1797,
        "bytes": 575_000,
        "files": 1,
        "schema": {},
        "content": "sha256:" + "ab12" * 16,
        "path": "builtin:digits",
        "peer": "p01",
        "address": "10.0.0.1:7700",
        "here": "verified",
    }
    words = {"name": "notes", "format": "text", "samples": 20_000, "bytes": 9_000_000, "files": 12}
    return {"datasets": [row, {**row, **words, "here": "absent", "path": "/data/notes"}]}


def shards(job: Answer) -> Answer:
    members, total = job["members"], job["shards"]
    count = len(members)
    rows = []
    for at, member in enumerate(members):
        first, last = total * at // count, total * (at + 1) // count
        rows.append(
            {
                "peer": member,
                "name": f"node-{int(member[1:])}",
                "shards": [first, last],
                "samples": [8 * first, 8 * last],
            }
        )
    told = {"job": job["id"], "step": job["step"], "epoch": job["epoch"], "shards": total}
    return {
        **told,
        "train_samples": 1437,
        "global_batch": 96,
        "samples": [0, 96],
        "peers": rows,
    }


def preview(name: str) -> Answer:
    if name != "digits":
        rows = [
            {"split": "train", "index": i, "fields": {"text": f"line {i} of the notes"}}
            for i in range(4)
        ]
        return {"name": name, "found": {"rows": rows}}
    rows = []
    for digit in range(6):
        pixels = [
            [15.0 * ((x - 3.5) ** 2 + (y - 3.5) ** 2 < 4 + 2 * digit) for x in range(8)]
            for y in range(8)
        ]
        fields = {"image": pixels, "label": digit}
        rows.append({"split": "train", "index": digit, "fields": fields})
    return {"name": name, "found": {"rows": rows}}
