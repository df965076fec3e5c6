"""A cluster that exists only as answers, for the tests and for looking at the screen:

python -m tests.tui_fake [PEERS] [--lost | --empty | --no-quorum | --read-only | --ascii]

It trains while you look; kill, remove, add, pause, cancel and transfer do what they say.
"""

import argparse
import asyncio
import math
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from p2p.errors import P2PError, Unreachable
from p2p.generation import End
from tests import tui_fake_told

HASH = "sha256:" + "3fa94c0be1d2" * 5 + "abcd"
Answer = dict[str, Any]
TOLD = (
    *("peers", "metrics", "alerts", "health", "insights", "data", "data_shards", "data_preview"),
    "models",
)


def peer(number: int, **changes: Any) -> Answer:
    return {
        "id": f"p{number:02}",
        "name": f"node-{number}",
        "address": f"10.0.0.{number}:7700",
        "host": f"host-{number}",
        "pid": 4000 + number,
        "role": "leader" if number == 1 else "voter" if number <= 5 else "learner",
        "state": "alive",
        "slots": 1,
        "trainers": 1,
        "replicas": 0,
        "rss": 37_000_000 + 900_000 * number,
        "cpu_percent": 3.0 + number,
        "version": "0.1.0",
        **changes,
    }


def job(number: int = 1, **changes: Any) -> Answer:
    return {
        "id": f"j{number:02}",
        "name": f"digits-{number}",
        "kind": "train",
        "task": "digits",
        "state": "running",
        "reason": "",
        "generation": 2,
        "step": 240,
        "steps_total": 450,
        "epoch": 3,
        "samples": 23_040,
        "loss": 0.2413,
        "metrics": {"accuracy": 0.9512},
        "samples_per_second": 5210.0,
        "members": ["p01", "p02", "p03"],
        "shards": 12,
        "strategy": "ring",
        "codec": "int32",
        "state_hash": HASH,
        **changes,
    }


def event(index: int, text: str, severity: str = "info", **changes: Any) -> Answer:
    told = {"index": index, "at": 1_790_000_000.0 + 3 * index, "kind": "told", "text": text}
    return {**told, "severity": severity, "peer": None, "job": None, **changes}


def points(step: int, seed: int = 7) -> list[Answer]:
    """A plausible training curve, one point per two steps."""
    rng = random.Random(seed)
    return [
        {
            "step": at,
            "epoch": at // 90,
            "loss": 2.3 * math.exp(-at / 90) + 0.08 + rng.uniform(0, 0.12) * math.exp(-at / 300),
            "accuracy": 1 - 0.9 * math.exp(-at / 70) - 0.02 if at % 10 == 0 else None,
            "samples": at * 96,
            "samples_per_second": 5200 + rng.uniform(-300, 300) - 1700 * (100 <= at < 130),
            "at": 1_790_000_000.0 + at / 50,
        }
        for at in range(2, step + 1, 2)
    ]


class FakeCluster:
    """A Source. `requests` are those that would change something; `down` = no peer answers."""

    def __init__(self, peers: int = 3, jobs: int = 1) -> None:
        self.peers = [peer(i + 1) for i in range(peers)]
        members = [told["id"] for told in self.peers[:5]]
        self.jobs = [job(i + 1, members=members) for i in range(jobs)]
        self.events = [event(1, "node-1 founded the cluster")]
        for told in self.peers[1:]:
            self.tell(f"{told['name']} joined at {told['address']}")
        if jobs:
            self.tell("digits-1: generation 2 with 3 trainers goes on at step 96", "warning")
        self.cluster_id = "c0ffee"
        self.term, self.quorum, self.down = 4, True, False
        self.age = 0.0
        self.is_older, self.gpus = False, 0
        self.alerts: list[Answer] = []
        self.models = tui_fake_told.models(self.peers)[: 2 if jobs else 0]
        self.answers: list[FakeAnswer] = []  # that were asked for; `say` and `finish` them
        self.refuse: Exception | None = None
        self.requests: list[tuple[str, Answer]] = []
        self.asked: list[str] = []
        self.attached = self.peers[0]["address"] if self.peers else "10.0.0.1:7700"

    @property
    def address(self) -> str:
        return self.attached

    def tell(self, text: str, severity: str = "info") -> None:
        index = self.events[-1]["index"] + 1 if self.events else 1
        self.events.append(event(index, text, severity))

    def find(self, peer_id: str) -> Answer:
        return next(told for told in self.peers if told["id"] == peer_id)

    async def request(self, verb: str, /, **args: Any) -> Answer:
        self.asked.append(verb)
        await asyncio.sleep(0)
        if self.down:
            raise Unreachable("no peer answers at 10.0.0.1:7700, 10.0.0.2:7700")
        if verb in ("status", "events", "job", "history"):
            return {"schema": 1, **getattr(self, f"_{verb}")(**args)}
        if verb in TOLD:
            if self.is_older:
                raise P2PError(f"this peer does not know the request {verb!r}: is it older?")
            return {"schema": 1, **self._told(verb, args)}
        self.requests.append((verb, args))
        if self.refuse is not None:
            raise self.refuse
        self._do(verb, args)
        return {"schema": 1}

    async def generate(self, prompt: Any, **options: Any) -> "FakeAnswer":
        if self.down:
            raise Unreachable("no peer answers at 10.0.0.1:7700, 10.0.0.2:7700")
        self.answers.append(FakeAnswer(prompt, options))
        return self.answers[-1]

    def _status(self) -> Answer:
        leader = next((told["id"] for told in self.peers if told["role"] == "leader"), None)
        seen = next((told for told in self.peers if told["address"] == self.attached), None)
        return {
            "view_from": seen["id"] if seen else "p01",
            "age": self.age,
            "cluster": {
                "id": self.cluster_id,
                "name": "lab",
                "term": self.term,
                "leader": leader,
                "quorum": self.quorum,
                "commit_index": 1234,
                "applied_index": 1234,
            },
            "peers": self.peers,
            "jobs": self.jobs,
        }

    def _events(self, since: int) -> Answer:
        return {"events": [told for told in self.events if told["index"] > since]}

    def _job(self, job: str) -> Answer:
        told = next(told for told in self.jobs if told["id"] == job)
        first = {"number": 1, "members": told["members"][:2], "start_step": 0, "reason": "started"}
        second = {"number": 2, "members": told["members"], "start_step": 96, "reason": "p03 joined"}
        stall = {"stall_seconds": 0.12, "steps_repeated": 0}
        return {
            **told,
            "generations": [{**first, **stall}, {**second, **stall}],
            "ledger": [
                {"epoch": 0, "samples": 1437, "distinct": 1437, "repeated": 0, "missing": 0}
            ],
            "checkpoints": [{"step": 100, "path": "/x", "bytes": 1, "seconds": 0.1}],
        }

    def _history(self, job: str) -> Answer:
        return {"points": points(next(told["step"] for told in self.jobs if told["id"] == job))}

    def _told(self, verb: str, args: Answer) -> Answer:
        if verb == "metrics":
            if args.get("latest"):
                return tui_fake_told.latest(self.peers, self.jobs, self.models)
            return tui_fake_told.series(args["peer"], args["names"], self.gpus)
        if verb == "data_shards":
            return tui_fake_told.shards(self.find_job(args["job"]))
        if verb == "data_preview":
            return tui_fake_told.preview(args["name"])
        return {
            "peers": lambda: tui_fake_told.devices(self.peers, self.gpus),
            "alerts": lambda: {"alerts": self.alerts},
            "health": lambda: tui_fake_told.health(self.peers, self.alerts),
            "insights": tui_fake_told.insights,
            "data": tui_fake_told.datasets,
            "models": lambda: {"models": self.models},
        }[verb]()

    def find_job(self, job: str) -> Answer:
        return next(told for told in self.jobs if told["id"] == job)

    def _do(self, verb: str, args: Answer) -> None:
        if verb == "fault" and args["kind"] != "kill":
            self.tell(f"drill {args['kind']} on {args['peer']}", "warning")
        elif verb in ("remove", "fault"):
            told = self.find(args["peer"])
            told["state"] = "left" if verb == "remove" else "dead"
            for made in self.jobs:
                made["members"] = [member for member in made["members"] if member != told["id"]]
            self.tell(f"{told['name']} is {told['state']}", "warning")
            if told["role"] == "leader":
                told["role"] = "voter"
                self._lead(next(other for other in self.peers if other["state"] == "alive"))
        elif verb == "transfer":
            for told in self.peers:
                told["role"] = "voter" if told["role"] == "leader" else told["role"]
            self._lead(self.find(args["peer"]))
        elif verb == "add":
            self.peers.append(peer(len(self.peers) + 1, role="learner", trainers=0))
            self.tell(f"{self.peers[-1]['name']} joined")
        elif verb == "submit":
            changes = {"task": args["task"], "name": args.get("name") or args["task"], "step": 0}
            self.jobs.append(job(len(self.jobs) + 1, **changes))
        elif verb == "set":
            self.find_job(args["job"]).update(args["changes"])
        elif verb == "alert.acknowledge":
            next(told for told in self.alerts if told["id"] == args["alert"])["acknowledged"] = True
        elif verb == "serve":
            self.models = tui_fake_told.models(self.peers)[:1]
        elif verb == "unserve":
            self.models = [told for told in self.models if told["id"] != args["model"]]
        elif verb in ("checkpoint", "restore"):
            self.tell(f"{args['job']}: {verb}")
        else:
            states = {"pause": "paused", "resume": "running", "cancel": "cancelled"}
            told = next(told for told in self.jobs if told["id"] == args["job"])
            told["state"] = states[verb]

    def _lead(self, told: Answer) -> None:
        told["role"] = "leader"
        self.term += 1
        self.tell(f"{told['name']} leads in term {self.term}")


class FakeAnswer:
    """An answer that says what a test tells it to, when it tells it to."""

    def __init__(self, prompt: Any, options: Answer) -> None:
        self.prompt, self.options = prompt, options
        self.seed = int(options.get("seed", 11))
        self.end: End | None = None
        self.answering: Answer = {}
        self.told_ids: list[int] = []
        self.is_left = False
        self._said: asyncio.Queue[str | Exception | None] = asyncio.Queue()

    def say(self, *pieces: str) -> None:
        self.answering = {"peer": "p02", "peer_name": "node-2", "replica": "r1"}
        for piece in pieces:
            self._said.put_nowait(piece)

    def finish(self, problem: Exception | None = None, moves: int = 0) -> None:
        count = len(self.told_ids) + self._said.qsize()
        self.end = End("length", "tales", "node-2", "r1", 3, count, 0.5, moves)
        self._said.put_nowait(problem)

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            while (piece := await self._said.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                self.told_ids.append(len(self.told_ids))
                yield piece
        finally:
            self.is_left = True


async def train(cluster: FakeCluster) -> None:
    """Let the jobs go on, as long as somebody looks."""
    while True:
        await asyncio.sleep(0.5)
        for told in cluster.jobs:
            if told["state"] == "running":
                told["step"] = min(told["steps_total"], told["step"] + 4)
                told["loss"] = points(told["step"])[-1]["loss"]
                told["samples"] = told["step"] * 96
                if told["step"] == told["steps_total"]:
                    told["state"] = "finished"
                    cluster.tell(f"{told['name']} finished")


async def look(args: argparse.Namespace) -> None:
    from tui.app import ClusterApp

    cluster = FakeCluster(args.peers, jobs=0 if args.empty else 2)
    if len(cluster.jobs) > 1:
        cluster.jobs[0].update(state="finished", step=450, name="digits-0", samples_per_second=0.0)
    if args.no_quorum:
        cluster.quorum = False
        for told in cluster.peers[1:]:
            told["state"] = "dead"
    for told in cluster.events:
        told["at"] = time.time() - 60 + told["index"]
    app = ClusterApp(cluster, read_only=args.read_only, ascii_only=args.ascii)
    tasks = [asyncio.ensure_future(train(cluster))]
    if args.lost:
        loop = asyncio.get_running_loop()
        loop.call_later(4.0, lambda: setattr(cluster, "down", True))
    await app.run_async()
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("peers", nargs="?", type=int, default=3)
    for flag in ("lost", "empty", "no-quorum", "read-only", "ascii"):
        parser.add_argument(f"--{flag}", action="store_true")
    asyncio.run(look(parser.parse_args()))
