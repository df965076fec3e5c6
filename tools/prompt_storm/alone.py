"""What one process answers that nobody disturbs: one question at a time, nothing left of others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2p.serving import protocol
from p2p.serving.checking import Fields
from p2p.serving.desk import Desk
from p2p.serving.messages import Done, Load, News, Tokens
from p2p.serving.models.loading import load
from tools.prompt_storm.questions import Question, Said


class Alone:
    """The weights of a checkpoint's files in this process. Raises P2PError."""

    def __init__(self, job: dict[str, Any], files: Sequence[Path]) -> None:
        self._engine, _ = load(Load("alone", job=job, weights=tuple(map(str, files))))

    def answer(self, question: Question) -> Said:
        wire = {**question.args(), "request": "one"}
        desk = Desk(self._engine.served, self._engine.slots, waiting_max=0)
        news: list[News] = list(desk.take(protocol.generate(Fields(wire))))
        while not (news and isinstance(news[-1], Done)):
            rows = desk.plan()
            news += desk.computed(rows, self._engine.step(rows), seconds=0.0)
        done = news[-1]
        assert done.error is None, done.error
        streams = [stream for told in news if isinstance(told, Tokens) for stream in told.streams]
        ids = tuple(id_ for stream in streams for id_ in stream.ids)
        return Said(ids, "".join(stream.text for stream in streams) + done.text)
