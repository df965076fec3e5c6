"""A process with some of the clients: each asks one question after the other, at any peer, and
writes down what it was told. It ends when its stdin does, once all have their answers.

python -m tools.prompt_storm.clients FOLDER NAME SEED COUNT      FOLDER has setup.json
"""

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from p2p.client import Client
from p2p.errors import P2PError
from p2p.generation import Generation
from p2p.runtime_dir import read_token
from tools.prompt_storm.questions import BAD, SHORT_MAX, Question
from tools.prompt_storm.twice import ask_twice

ANSWER_WITHIN_S = 180.0
GAP_NOTED_S = 0.05
# How a question is asked, and how often.
HOW = {"whole": 10, "conversation": 2, "cancel": 2, "slow": 2, "twice": 2, "bad": 1}
SLOW_EVERY_S, SLOW_IDS, SLOW_PAUSE_S = 0.02, 20, (1.0, 6.0)

Record = dict[str, Any]


@dataclass
class Asker:
    """One client. `write(record)` keeps a record for good."""

    name: str
    client: Client
    rng: Random
    questions: list[Question]
    write: Callable[[Record], None]

    async def live(self, is_over: Callable[[], bool]) -> None:
        for number in itertools.count(1):
            if is_over():
                return
            how = self.rng.choices(list(HOW), list(HOW.values()))[0]
            await getattr(self, f"_{how}")(f"{self.name}-{number}")

    async def _whole(self, id_: str) -> None:
        await self._asked(id_, "whole", self.rng.choice(self._single()))

    async def _slow(self, id_: str) -> None:
        await self._asked(id_, "slow", self.rng.choice(self._single()))

    async def _cancel(self, id_: str) -> None:
        most = self.rng.randint(1, 200)
        await self._asked(id_, "cancel", self.rng.choice(self._single()), most)

    async def _conversation(self, id_: str) -> None:
        chain = self.rng.choice(sorted({each.chain for each in self.questions if each.chain}))
        for turn, question in enumerate(each for each in self.questions if each.chain == chain):
            await self._asked(f"{id_}.{turn}", "conversation", question, conversation=id_)

    async def _bad(self, id_: str) -> None:
        number = self.rng.randrange(len(BAD))
        prompt, options, _ = BAD[number]
        await self._asked(id_, "bad", Question(f"bad-{number}", prompt, options))

    async def _twice(self, id_: str) -> None:
        self._meet()
        # Long ones: the first shall not be over before it is asked again.
        question = self.rng.choice(
            [q for q in self._single() if q.options["max_tokens"] > SHORT_MAX]
        )
        record = self._begun(id_, "twice", question)
        self.write({**record, **await ask_twice(self.client, question, id_)})

    async def _asked(
        self,
        id_: str,
        how: str,
        question: Question,
        most: int | None = None,
        conversation: str | None = None,
    ) -> None:
        """`most`: ids, then it is cancelled."""
        self._meet()
        given = {"model": "storm", "timeout_s": ANSWER_WITHIN_S, "conversation": conversation}
        record = self._begun(id_, how, question)
        heard = Heard(self.client.address)
        result, error = "whole", ""
        try:
            asked = self.client.generate(question.prompt, **{**given, **question.options})
            async with contextlib.aclosing(aiter(asked)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    heard.hear(piece, asked, self.client.address)
                    if most is not None and len(asked.told_ids) >= most:
                        result = "cancelled"
                        break
                    await self._linger(how, len(asked.told_ids))
            heard.finish(asked)
        except P2PError as problem:
            result, error = "error", f"{type(problem).__name__}: {problem}"[:300]
        self.write({**record, "result": result, "error": error, **heard.told()})

    async def _linger(self, how: str, count: int) -> None:
        if how == "slow" and count <= SLOW_IDS:
            long = count == SLOW_IDS
            await asyncio.sleep(self.rng.uniform(*SLOW_PAUSE_S) if long else SLOW_EVERY_S)

    def _single(self) -> list[Question]:
        return [each for each in self.questions if not each.chain]

    def _meet(self) -> None:
        """Ask another peer from now on."""
        self.client.address = self.rng.choice(self.client.known)

    def _begun(self, id_: str, how: str, question: Question) -> Record:
        record = {"id": id_, "how": how, "question": question.key, "begun_s": time.monotonic()}
        self.write({**record, "result": "begun"})
        return record


class Heard:
    """What came of one answer, and when nothing came for a while, and whose fault that may be."""

    def __init__(self, front: str) -> None:
        self._last_s = time.monotonic()
        self._first_s: float | None = None
        self._from = {"front": front, "peer": ""}
        self._text: list[str] = []
        self._ids: tuple[int, ...] = ()
        self._gaps: list[Record] = []
        self._moves, self._end = 0, ""

    def hear(self, piece: str, asked: Generation, front: str) -> None:
        now_s = time.monotonic()
        if self._first_s is None:
            self._first_s = now_s
        elif now_s - self._last_s >= GAP_NOTED_S:
            self._gaps.append({"from_s": self._last_s, "to_s": now_s, **self._from})
        self._last_s = now_s
        self._from = {"front": front, "peer": str(asked.answering.get("peer", ""))}
        self._text.append(piece)
        self._ids = asked.told_ids

    def finish(self, asked: Generation) -> None:
        self._ids = asked.told_ids
        if asked.end is not None:
            self._moves, self._end = asked.end.moves, asked.end.reason

    def told(self) -> Record:
        told = {"ids": list(self._ids), "text": "".join(self._text), "gaps": self._gaps}
        times = {"first_s": self._first_s, "ended_s": time.monotonic()}
        return {**told, **times, "moves": self._moves, "end": self._end}


async def live(folder: Path, name: str, seed: int, count: int) -> None:
    setup = json.loads((folder / "setup.json").read_text())
    questions = [Question(**each) for each in setup["questions"]]
    key = read_token(Path(setup["token_file"]))
    assert key is not None
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()

    def end() -> None:
        loop.remove_reader(sys.stdin.fileno())  # it would be called without a pause
        stopping.set()

    loop.add_reader(sys.stdin.fileno(), end)
    with (folder / f"{name}.jsonl").open("w", buffering=1) as file:

        def write(record: Record) -> None:
            file.write(json.dumps(record) + "\n")

        clients = [Client(setup["addresses"], key) for _ in range(count)]
        askers = [
            Asker(f"{name}-{at}", client, Random(f"{seed} {name} {at}"), questions, write)
            for at, client in enumerate(clients)
        ]
        try:
            await asyncio.gather(*(asker.live(stopping.is_set) for asker in askers))
        finally:
            for client in clients:
                await client.close()


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
