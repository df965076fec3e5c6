"""tools.prompt_storm: what it asks and when, and that its audit sees what must not be."""

from random import Random
from typing import Any

import pytest

from tools.chaos.crew import Crew
from tools.prompt_storm.audit import (
    audited,
    gaps_at_deaths,
    problems_of,
    spread,
    vacuous,
)
from tools.prompt_storm.faults import Death, ServingStorm
from tools.prompt_storm.questions import BAD, CONTEXT, Question, Said, questions

SAID = Said((100, 101, 102), "def")
ANSWERS = {"q1": SAID}
WHOLE: dict[str, Any] = {
    "id": "c-1",
    "by": "crowd-1",
    "how": "whole",
    "question": "q1",
    "begun_s": 0.0,
    "result": "whole",
    "error": "",
    "ids": [100, 101, 102],
    "text": "def",
    "moves": 1,
}
STREAM = {"ids": [100], "text": "d", "end": "error", "after_end": 0, "is_torn": False}
ENDED = {**STREAM, "ids": [100, 101, 102], "text": "def", "end": "ok"}
TWICE = {**WHOLE, "how": "twice", "result": "twice", "was_over": False}
TWO = {**TWICE, "first": STREAM, "second": ENDED}
BAD_ONE = {**WHOLE, "how": "bad", "question": "bad-0", "result": "error"}


def play(question: Question) -> Said:
    count = question.options["max_tokens"]
    return Said(tuple(range(count)), f"answer to {question.key}")


def test_one_seed_asks_the_same_and_what_fits() -> None:
    asked = questions(3, play)
    assert asked == questions(3, play)
    assert asked != questions(4, play)
    for question, _ in asked:
        prompt = question.prompt
        text = prompt if isinstance(prompt, str) else "".join(m["content"] for m in prompt)
        assert 0 < len(text.encode()) + question.options["max_tokens"] <= CONTEXT
    turns = [question.prompt for question, _ in asked if question.chain == "c0"]
    assert turns[1][1]["content"] == "answer to c0.0"  # type: ignore[index]


def test_one_seed_wishes_the_same_faults() -> None:
    """What is possible depends on the peers; here there are none."""

    def wishes(seed: int) -> list[str]:
        cluster: Any = type("Cluster", (), {"peers": ()})
        storm = ServingStorm(Crew(cluster), seed, frozenset(ServingStorm.weights), None)  # type: ignore[arg-type]
        drawn = []
        for _ in range(20):
            drawn.append(storm.rng.choices(list(storm.kinds), list(storm.kinds.values()))[0])
            storm._strike()
        return drawn

    assert wishes(1) == wishes(1)
    assert wishes(1) != wishes(2)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (WHOLE, None),
        ({**WHOLE, "ids": [100, 102], "text": "df"}, ("differs from token 1", "another text")),
        ({**WHOLE, "ids": [100, 101], "text": "de"}, ("differs from the end", "another text")),
        ({**WHOLE, "ids": [100, 100, 101, 102], "text": "ddef"}, ("differs", "another text")),
        ({**WHOLE, "text": "dee"}, ("another text from character 2",)),
        ({**WHOLE, "result": "error", "error": "P2PError: no"}, ("failed: P2PError: no",)),
        ({**WHOLE, "how": "cancel", "result": "cancelled", "ids": [100], "text": "d"}, None),
        ({**WHOLE, "how": "cancel", "result": "cancelled", "ids": [101]}, ("differs",)),
        (TWO, None),
        ({**TWICE, "result": "interrupted"}, None),
        ({**TWO, "first": ENDED}, ("both were answered",)),
        ({**TWO, "first": ENDED, "was_over": True}, None),
        ({**TWO, "second": {**ENDED, "after_end": 1}}, ("told 1 times more after its end",)),
        ({**TWO, "second": {**STREAM, "is_torn": True}}, ("misses or repeats", "not answered")),
        ({**BAD_ONE, "error": f"Usage: {BAD[0][2]}: …"}, None),
        ({**BAD_ONE, "error": "P2PError: what?"}, ("was told",)),
        ({**BAD_ONE, "result": "whole"}, ("was told 'whole'",)),
    ],
)
def test_what_a_client_was_told_is_compared(
    record: dict[str, Any], words: tuple[str, ...] | None
) -> None:
    problems = list(problems_of(record, ANSWERS))
    assert len(problems) == len(words or ())
    assert all(word in problem for word, problem in zip(words or (), problems, strict=True))


def test_what_was_lost_or_answered_twice_is_seen() -> None:
    begun = [{**WHOLE, "id": f"c-{n}", "result": "begun"} for n in range(3)]
    begun[2]["by"] = "crowd-2"
    verdict = audited(
        [*begun, {**WHOLE, "id": "c-0"}, {**WHOLE, "id": "c-0"}], ANSWERS, ["crowd-2"]
    )
    assert verdict.problems[:2] == ["c-0 was answered twice", "c-1 (whole, q1) was lost"]
    assert verdict.counts == {"whole: whole": 2, "whole: vanished": 1}
    assert len(list(vacuous(verdict.counts))) == len(verdict.problems) - 2 == 5


def test_a_gap_belongs_to_the_death_that_it_spans() -> None:
    gap = {"from_s": 1.0, "to_s": 3.0, "front": "f:1", "peer": "p"}
    record = {**WHOLE, "gaps": [gap, {**gap, "from_s": 5.0, "to_s": 5.5}]}
    for death, found in (
        (Death(2.0, "kill replica", "p", "p:1"), {"replica": [2.0], "front": []}),
        (Death(2.0, "kill", "f", "f:1"), {"replica": [], "front": [2.0]}),
        (Death(2.0, "kill replica", "f", "f:1"), {"replica": [], "front": []}),
        (Death(4.0, "kill", "p", "p:1"), {"replica": [], "front": []}),
    ):
        assert gaps_at_deaths([record, {**record, "how": "slow"}], [death]) == found
    told = spread([Random(1).random() for _ in range(99)] + [7.0])
    assert (told["count"], told["max_s"]) == (100, 7.0)
    assert spread([]) == {"count": 0}
