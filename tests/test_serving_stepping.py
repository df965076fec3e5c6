"""A step of a replica in which a prompt fails: alone, with a sentence; and what a replica is at."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from p2p.control.deadlines import FIRST_S, FLOOR_S, Awake, Pulse, heard_later, hung
from p2p.serving import heart
from p2p.serving.batching import Row
from p2p.serving.desk import NO_NUMBERS, Desk
from p2p.serving.heart import Heart, Pace
from p2p.serving.messages import Done, Generate, News, Tokens
from p2p.serving.models.engine import Unfit
from p2p.serving.stepping import FAILURES_MAX, Stepping

RAISES, NAN, NO_MEMORY, UNFIT, NO_TEXT = 200, 210, 220, 230, 240


class Letters:
    """A token is a letter's code."""

    vocabulary = 256
    context = 40
    ends = frozenset[int]()

    def encode(self, text: str) -> list[int]:
        if "#" in text:
            raise KeyError("#")
        return list(text.encode("latin-1"))

    def decode(self, ids: Sequence[int]) -> bytes:
        if NO_TEXT in ids:
            raise IndexError(NO_TEXT)
        return bytes(ids)


class Engine:
    """After a token comes the next one; some tokens cannot be computed."""

    row_s = 0.001
    steps = 0

    def step(self, rows: Sequence[Row]) -> Any:
        self.steps += 1
        tokens = {row.token for row in rows}
        if RAISES in tokens:
            raise IndexError("index out of range in self")
        if NO_MEMORY in tokens:
            raise MemoryError
        if UNFIT in tokens:
            raise Unfit("it is not a model")
        scores = np.zeros((sum(row.is_wanted for row in rows), 256), np.float32)
        for at, row in enumerate(row for row in rows if row.is_wanted):
            scores[at, (row.token + 1) % 256] = 1.0
            if row.token == NAN:
                scores[at, 3] = np.nan
        return scores


def stepping(slots: int = 4) -> Stepping:
    made: Any = Engine()
    return Stepping(made, Desk(Letters(), slots, 10), Heart(lambda news: None))


def ask(request: str, *tokens: int, max_tokens: int = 5) -> Generate:
    return Generate(request, tokens=tokens, max_tokens=max_tokens)


def until_idle(made: Stepping) -> tuple[dict[str, list[int]], dict[str, Done]]:
    ids: dict[str, list[int]] = {}
    done: dict[str, Done] = {}
    while (news := made.step()) is not None:
        for each in news:
            if isinstance(each, Tokens):
                for stream in each.streams:
                    ids.setdefault(stream.request, []).extend(stream.ids)
            elif isinstance(each, Done):
                assert each.request not in done
                done[each.request] = each
    return ids, done


@pytest.mark.parametrize("token", [RAISES, NAN])
def test_a_prompt_that_cannot_be_computed_fails_alone(token: int) -> None:
    made = stepping()
    orders = [ask("a", 1), ask("bad", 9, token), ask("b", 2, 3), ask("soon", token - 3)]
    for order in orders:
        assert made.take(order) == []
    ids, done = until_idle(made)
    assert ids == {
        "a": [2, 3, 4, 5, 6],
        "b": [4, 5, 6, 7, 8],
        "soon": [token - 2, token - 1, token],
    }
    assert {request: told.reason for request, told in done.items()} == {
        "a": "length",
        "b": "length",
        "bad": "error",
        "soon": "error",
    }
    why = NO_NUMBERS if token == NAN else "the model cannot answer this prompt: IndexError"
    assert all(str(done[request].error).startswith(why) for request in ("bad", "soon"))
    made.take(ask("bad", 1))
    assert until_idle(made)[1]["bad"].reason == "length", "its place is free again"


def test_a_replica_that_can_compute_nothing_ends() -> None:
    made = stepping()
    for n in range(FAILURES_MAX - 1):
        made.take(ask(str(n), RAISES))
        assert until_idle(made)[1][str(n)].reason == "error"
    made.take(ask("last", RAISES))
    with pytest.raises(IndexError):
        until_idle(made)
    for token, kind in ((NO_MEMORY, MemoryError), (UNFIT, Unfit)):
        made = stepping()
        made.take(ask("r", token))
        with pytest.raises(kind):
            made.step()


def test_a_tokenizer_that_raises_fails_that_prompt_alone() -> None:
    made = stepping()
    (told,) = made.take(Generate("no", text="a#"))
    assert isinstance(told, Done)
    assert told.error == "the model does not take this prompt: '#'"
    made.take(ask("text", NO_TEXT - 1))
    made.take(ask("a", 1))
    ids, done = until_idle(made)
    assert "is no text" in str(done["text"].error)
    assert ids["a"] == [2, 3, 4, 5, 6]


def test_a_prompt_longer_than_the_context_is_told_both_numbers() -> None:
    (told,) = stepping().take(Generate("long", tokens=(1,) * 1_234))
    assert isinstance(told, Done)
    assert told.error == (
        "the prompt has 1,234 tokens and the model's context is 40, of prompt and answer "
        "together: give a shorter one"
    )


def test_a_pulse_says_what_it_is_at_and_what_is_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(heart.time, "monotonic", lambda: now_s)
    said: list[News] = []
    beats = Heart(said.extend)
    with beats.at("computing", 0.5):
        now_s += 3.0
        assert (beats.pulse().doing, beats.pulse().for_s, beats.pulse().usual_s) == (
            *("computing", 3.0),
            0.5,
        )
    assert beats.pulse().doing == "wait"
    pace = Pace(0.01)
    assert (pace.usual_s(1), pace.usual_s(64)) == (0.01, 0.64)
    for seconds in (0.1, 0.2, 9.0):
        pace.took(60, seconds)
    assert (pace.usual_s(33), pace.usual_s(64)) == (0.2, 0.64)


def test_who_hangs_by_its_pulse() -> None:
    def at(doing: str, for_s: float, usual_s: float | None, silent_s: float) -> str | None:
        return hung(Pulse(doing, None, for_s, usual_s, 50.0), 50.0 + silent_s)

    assert at("computing", 0.1, 0.01, FLOOR_S - 1) is None
    assert at("wait", 999.0, None, 0.5) is None
    assert at("loading", 999.0, None, 0.5) is None
    assert at("wait", 0.0, None, FLOOR_S) == "it hung: no sign of life for 10 s"
    assert (
        at("computing", FLOOR_S, 0.01, 0.4) == "it hung: computing for 10 s, where 0.01 s is usual"
    )
    assert at("computing", FLOOR_S, 5.0, 0.4) is None
    assert at("reading a prompt", FIRST_S, None, 0.0) == "it hung: reading a prompt for 300 s"
    assert hung(Pulse("step", 7, FIRST_S, None, 0.0), 0.0) == "it hung: step of step 7 for 300 s"
    awake = Awake()
    assert [awake.slept_s(now_s) for now_s in (5.0, 5.5, 25.0, 25.2)] == [0.0, 0.0, 19.5, 0.0]
    beat = Pulse("computing", None, 0.1, 0.01, 50.0)
    assert hung(heard_later(beat, 19.5), 65.0) is None
