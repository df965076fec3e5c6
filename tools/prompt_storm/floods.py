"""Garbage, enormous prompts, 10,000 at once, slow readers and vanished clients, at one real peer:
does it stay small and quick, keep its leader, and say clearly what it does not do?

python -m tools.prompt_storm.floods        exit code 0: it does

Each flood is followed by an honest question, whose answer must be an undisturbed process's.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from tools.chaos.crew import Crew
from tools.prompt_storm import garbage
from tools.prompt_storm.many import Many
from tools.prompt_storm.questions import Question, Said, questions
from tools.prompt_storm.served import alone, serve, train, verified
from tools.prompt_storm.watching import Memory
from tools.simulate import commit
from tools.storm.verdict import keep, left_behind, stop_all

QUEUED, QUEUED_TOKENS = 10_000, 4
SLOW, SLOW_S = 200, 20.0
VANISHED, ASKING_S, VANISHED_S = 500, 2.0, 20.0  # a client not heard of for 15 s has vanished
UNREAD_MAX = 512  # ids that a client which reads nothing may be told
HONEST_WITHIN_S = 60.0
GROWS_MB_MAX = 100.0
LAG_MAX_S = 1.0  # where the machine has a processor for the peer
Figures = dict[str, Any]


class Floods:
    """`front`: the peer that is flooded."""

    def __init__(self, crew: Crew, asked: list[tuple[Question, Said]], seed: int) -> None:
        self.crew, self.rng = crew, Random(f"floods {seed}")
        self.front = crew.members[-1]
        self._asked = asked
        self._short = [one for one in asked if not one[0].chain and len(one[1].ids) < 100]
        self._long = [one for one in asked if len(one[1].ids) > UNREAD_MAX // 2]
        self.honest: tuple[Question, Said] = self._short[0]

    async def garbage(self, client: Client) -> Figures:
        told = await garbage.bytes_of_strangers(self.front.peer.address, self.rng)
        return told | await garbage.frames_of_a_friend(
            client, self.front.peer.address, self.rng, self.honest[0].args()
        )

    async def enormous(self, client: Client) -> Figures:
        told = await garbage.enormous_prompts(client, self.front.peer.address)
        self.crew.problems += told.pop("problems")
        return told

    async def ten_thousand(self, client: Client) -> Figures:
        """Each is answered, or told when to come again; nobody is forgotten."""
        question, said = self.honest
        args = {**question.args(), "max_tokens": QUEUED_TOKENS, "stop": []}
        ids = list(said.ids[:QUEUED_TOKENS])
        many = Many(client, self.front.peer.address, [args] * QUEUED)
        await many.all_end()
        told = many.counts()
        whole = [stream for stream in many.streams if stream.end == "ok"]
        wrong = sum(stream.ids[: len(ids)] != ids for stream in whole)
        busy = [stream for stream in many.streams if stream.error.get("kind") == "Busy"]
        clear = sum("busy, retry after" in str(stream.error["error"]) for stream in busy)
        if wrong or len(whole) + len(busy) != QUEUED or clear != len(busy) or not busy:
            self.crew.problems.append(f"of {QUEUED} at once: {told}, {wrong} are wrong")
        return {**told, "asked_again": many.asked_again}

    async def slow_readers(self, client: Client) -> Figures:
        """They live, and read nothing for a while; then all of it."""
        chosen = [self._long[n % len(self._long)] for n in range(SLOW)]
        many = Many(client, self.front.peer.address, [q.args() for q, _ in chosen], reads=False)
        began_s = time.monotonic()
        honest = asyncio.ensure_future(self.ask_honestly(client, SLOW_S / 2))
        await many.attend(lambda: honest.done() and time.monotonic() - began_s > SLOW_S)
        most = max(len(stream.ids) for stream in many.streams)
        begun = sum(bool(stream.ids) for stream in many.streams)
        many.reads = True
        await many.all_end()
        wrong = sum(
            tuple(stream.ids) != said.ids or stream.text != said.text
            for stream, (_, said) in zip(many.streams, chosen, strict=True)
        )
        if wrong or most > UNREAD_MAX:
            how = f"{many.counts()}, {wrong} are wrong, up to {most} ids unread"
            self.crew.problems.append(f"of {SLOW} slow readers: {how}")
        told = {"begun": begun, "unread_most": most, "honest_meanwhile_s": await honest}
        return {**told, "all_answered_s": round(time.monotonic() - began_s, 1), **many.counts()}

    async def vanished(self, client: Client) -> Figures:
        """Their connection goes away with all their prompts."""
        gone = Client(client.known, client.key)
        args = [self._long[n % len(self._long)][0].args() for n in range(VANISHED)]
        many = Many(gone, self.front.peer.address, args)
        until_s = time.monotonic() + ASKING_S
        await many.attend(lambda: time.monotonic() > until_s)
        answered = sum(bool(stream.end) for stream in many.streams)
        await gone.close()
        before_s = await self.ask_honestly(client)
        await asyncio.sleep(VANISHED_S)
        return {
            "answered_before": answered,
            "honest_at_once_s": before_s,
            "honest_when_forgotten_s": await self.ask_honestly(client),
        }

    async def ask_honestly(self, client: Client, after_s: float = 0.0) -> float:
        """Seconds that it took; a problem if the answer is another."""
        await asyncio.sleep(after_s)
        question, said = self.honest
        client.address = self.front.peer.address
        began_s = time.monotonic()
        asked = client.generate(question.prompt, timeout_s=HONEST_WITHIN_S * 3, **question.options)
        text = ""
        try:
            text = "".join([piece async for piece in asked])
        except P2PError as error:
            self.crew.problems.append(f"an honest question was told {error!r}")
        took_s = round(time.monotonic() - began_s, 2)
        if (text, asked.told_ids) != (said.text, said.ids):
            self.crew.problems.append(f"an honest question was answered {text!r}")
        return took_s

    # -- one after the other ---------------------------------------------------------------------

    async def run(self, names: list[str]) -> Figures:
        key = self.crew.cluster.key
        client = Client([self.front.peer.address], key, 20.0)
        report: Figures = {}
        try:
            for name in names:
                report[name] = await self._one(client, getattr(self, name))
                print(f"{name}: {json.dumps(report[name])}", flush=True)
        finally:
            await client.close()
        return report

    async def _one(self, client: Client, flood: Callable[[Client], Awaitable[Figures]]) -> Figures:
        since, before = time.time(), await client.request("status")
        with Memory(self.crew) as memory:
            idle_mb = memory.now_mb(self.front)
            told = await flood(client)
            told["honest_s"] = await self.ask_honestly(client)
        after = await client.request("status")
        terms = [status["cluster"]["term"] for status in (before, after)]
        if terms[0] != terms[1]:
            self.crew.problems.append(f"{flood.__name__}: terms {terms}, a leader was lost")
        most_mb = max(memory.peers_mb.values(), default=idle_mb)
        if most_mb - idle_mb > GROWS_MB_MAX:
            self.crew.problems.append(f"{flood.__name__}: from {idle_mb} to {most_mb} MB")
        told |= {"idle_mb": idle_mb, "most_mb": most_mb, "seconds": round(time.time() - since, 1)}
        lag_s = await self._lag_s(client, since)
        if lag_s > LAG_MAX_S:
            self.crew.problems.append(f"{flood.__name__}: the peer was {lag_s} s late for a tick")
        return {**told, "loop_lag_s": lag_s}

    async def _lag_s(self, client: Client, since: float) -> float:
        """The longest that the flooded peer was late for a tick."""
        told = await client.request("metrics", names=["process.loop_lag_s"], since=since)
        points = told["series"].get("process.loop_lag_s", {"points": []})["points"]
        if not points:
            self.crew.problems.append("nothing is known of how late the flooded peer was")
        return round(max((float(point[2]) for point in points), default=0.0), 3)


FLOODS = ("garbage", "enormous", "ten_thousand", "slow_readers", "vanished")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.prompt_storm.floods")
    parser.add_argument("--only", nargs="+", choices=FLOODS, default=FLOODS)
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument("--report", type=Path, metavar="FILE", help="JSON")
    options = parser.parse_args(arguments)
    peers = ("--slots", "1")
    with LocalCluster(peers) as cluster:
        cluster.start()
        cluster.start_many(2)
        crew = Crew(cluster, peers)
        report: Mapping[str, Any] = {}
        try:
            job = train(crew)
            asked = questions(options.seed, alone(crew, job).answer)
            serve(crew, job, 2, 2)
            report = asyncio.run(Floods(crew, asked, options.seed).run(list(options.only)))
            verified(crew, 0, HONEST_WITHIN_S)
        except (P2PError, OSError, RuntimeError) as error:
            crew.problems.append(f"the run itself ended: {error!r}")
        stop_all(crew)
        crew.problems += left_behind(cluster)
        for problem in crew.problems:
            print(f"PROBLEM {problem}")
        told = {**report, "commit": commit(), "load_average": round(os.getloadavg()[0], 1)}
        if options.report:
            options.report.write_text(json.dumps({**told, "problems": crew.problems}) + "\n")
        if crew.problems:
            print(f"kept: {keep(crew, 'p2p-floods-', {})}")
        print("PROBLEMS" if crew.problems else "clean")
        return bool(crew.problems)


if __name__ == "__main__":
    sys.exit(main())
