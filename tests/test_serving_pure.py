"""Batching, drawing and text: what a replica decides without computing."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.serving.batching import ROWS_MAX, Batch, Busy
from p2p.serving.desk import Desk
from p2p.serving.messages import Done, Generate, Sampling, Tokens
from p2p.serving.sampling import are_numbers, chance, draw
from p2p.serving.text import BytesText, Stops, WordsText

CONTEXT = 200


def asked(request: str, max_tokens: int = 4, sent: tuple[int, ...] = ()) -> Generate:
    return Generate(request, text="", max_tokens=max_tokens, sent=sent)


def model(ids: Sequence[int]) -> int:
    """The next id: a function of all before."""
    return hash(tuple(ids)) % 50


class Played:
    """A batch whose model is `model`, computed only from what was planned, as a cache would."""

    def __init__(self, slots: int, waiting: int = 100) -> None:
        self.batch = Batch(slots, CONTEXT, waiting)
        self.caches: dict[int, list[int]] = {n: [] for n in range(slots)}
        self.answers: dict[str, list[int]] = {}

    def step(self) -> int:
        rows = self.batch.plan()
        assert len(rows) <= ROWS_MAX
        drawn = []
        for row in rows:
            cache = self.caches[row.slot]
            assert row.place <= len(cache), "a token before it was never computed"
            self.caches[row.slot] = [*cache[: row.place], row.token]
            if row.is_wanted:
                drawn.append(model(self.caches[row.slot]))
        for stream, token in zip(self.batch.computed(rows), drawn, strict=True):
            stream.ids.append(token)
            if self.batch.is_full(stream):
                self.answers[stream.asked.request] = stream.ids[stream.prompt :]
                self.batch.end(stream.asked.request)
        return len(rows)


def alone(prompt: Sequence[int], count: int) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + count:
        ids.append(model(ids))
    return ids[len(prompt) :]


PROMPTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=90), min_size=1, max_size=8)


@settings(max_examples=40)
@given(PROMPTS, st.integers(1, 4), st.data())
def test_an_answer_is_the_same_in_any_batch(
    prompts: list[list[int]], slots: int, data: st.DataObject
) -> None:
    """Requests join in the midst, resume from ids that were sent, are cancelled."""
    played = Played(slots)
    cancelled = set()
    for number, prompt in enumerate(prompts):
        right = alone(prompt, 6)
        sent = tuple(right[: data.draw(st.integers(0, 5), "sent")])
        played.batch.add(asked(str(number), 6, sent), prompt)
        if data.draw(st.integers(0, 4), "cancel") == 0:
            victim = str(data.draw(st.integers(0, number), "victim"))
            if victim in played.batch:
                played.batch.end(victim)
                cancelled.add(victim)
        for _ in range(data.draw(st.integers(0, 3), "steps")):
            played.step()
    while played.step():
        pass
    told = {n: alone(p, 6) for n, p in enumerate(prompts) if str(n) not in cancelled}
    assert played.answers == {str(n): answer for n, answer in told.items()}
    assert played.batch.running == played.batch.waiting == 0


def test_the_queue_is_bounded_and_served_in_order() -> None:
    played = Played(1, waiting=2)
    for name in "abc":
        played.batch.add(asked(name, 2), [1])
    with pytest.raises(Busy):
        played.batch.add(asked("d"), [1])
    assert (played.batch.running, played.batch.waiting) == (1, 2)
    while played.step():
        pass
    assert list(played.answers) == ["a", "b", "c"]


def test_what_was_computed_before_is_not_computed_again() -> None:
    """A conversation goes on: its next prompt begins with all that was said."""
    played = Played(2)
    played.batch.add(asked("first"), prompt := list(range(40)))
    while played.step():
        pass
    said = [*prompt, *played.answers["first"]]
    played.batch.add(asked("other", 1), [9, 9])
    played.step()
    played.batch.add(asked("second", 1), [*said, 7])
    assert played.step() == 2  # the last id of the answer was drawn, not computed; and the new one
    assert played.answers["second"] == alone([*said, 7], 1)


def test_a_long_prompt_does_not_stop_the_others() -> None:
    played = Played(2)
    played.batch.add(asked("short", 20), [1])
    played.step()
    played.batch.add(asked("long", 1), [2] * 189)
    for _ in range(3):
        assert played.step() == ROWS_MAX
    stream = played.batch.find("short")
    assert stream is not None
    assert stream.answered == 4
    assert "long" in played.answers


@pytest.mark.parametrize("prompt", [[], [1] * CONTEXT], ids=["empty", "too long"])
def test_prompts_that_cannot_be_answered(prompt: list[int]) -> None:
    with pytest.raises(ValueError, match="give"):
        Batch(1, CONTEXT, 1).add(asked("a"), prompt)


@settings(max_examples=40)
@given(st.integers(0, 1 << 63), st.integers(1, 6), st.integers(2, 40))
def test_a_row_is_drawn_as_if_alone(seed: int, rows: int, vocabulary: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(size=(rows, vocabulary)).astype(np.float32)
    how = [Sampling(float(random.choice([0, 0.5, 1, 3])), seed=seed + n) for n in range(rows)]
    places = list(range(5, 5 + rows))
    each = [draw(scores[n : n + 1], how[n : n + 1], places[n : n + 1])[0] for n in range(rows)]
    assert draw(scores, how, places) == each


def test_draws_follow_the_probabilities() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    scores = np.log(probabilities).astype(np.float32)[None]

    def shares(sampling: dict[str, float]) -> list[float]:
        drawn = [draw(scores, [Sampling(1.0, seed=3, **sampling)], [n])[0] for n in range(2000)]  # type: ignore[arg-type]
        return [drawn.count(token) / len(drawn) for token in range(4)]

    assert shares({}) == pytest.approx(probabilities, abs=0.04)
    assert shares({"top_k": 2}) == pytest.approx([0.625, 0.375, 0, 0], abs=0.04)
    assert shares({"top_p": 0.79}) == pytest.approx([0.625, 0.375, 0, 0], abs=0.04)
    assert shares({"top_p": 0.0}) == [1, 0, 0, 0]


def test_temperatures_however_small_draw_the_likeliest() -> None:
    scores = np.array([[1.0, 3.0, -np.inf, 2.999]], np.float32)
    for temperature in (5e-324, 1e-300, 1e-9):
        assert draw(scores, [Sampling(temperature, 9, 1.0, 3)], [0]) == [1]
    drawn = {draw(scores, [Sampling(100.0, seed=seed)], [0])[0] for seed in range(99)}
    assert drawn == {0, 1, 3}


def test_a_model_without_numbers_ends_that_prompt_alone() -> None:
    desk = Desk(Letters(), 2, 4)
    assert not [desk.take(Generate(name, text="ab", max_tokens=1)) for name in "xy"][1]
    rows = desk.plan()
    scores = np.zeros((2, Letters.vocabulary), np.float32)
    scores[0, 3] = np.nan
    tokens, *done = desk.computed(rows, scores, 0.01)
    assert isinstance(tokens, Tokens)
    assert [stream.request for stream in tokens.streams] == ["y"]
    told = {d.request: (d.reason, d.error) for d in done if isinstance(d, Done)}
    assert told["y"] == ("length", None)
    assert told["x"][0] == "error"
    assert "NaN or Inf" in str(told["x"][1])
    for lost in (np.inf, np.full(Letters.vocabulary, -np.inf, np.float32)):
        scores[0] = lost
        assert are_numbers(scores).tolist() == [False, True]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Generate("a", text="no"), "the model does not take this prompt: roles must alternate"),
        (Generate("a", text="\x7f"), "token 127 is none of the model's 100"),
        (Generate("a", tokens=(1, 100)), "token 100 is none of the model's 100"),
        (Generate("a", text="a", sent=(100,)), "token 100 is none of the model's 100"),
    ],
)
def test_a_prompt_that_the_model_refuses_is_its_own_end(asked: Generate, said: str) -> None:
    (done,) = Desk(Letters(), 1, 1).take(asked)
    assert isinstance(done, Done)
    assert (done.reason, str(done.error)[: len(said)]) == ("error", said)


def test_whoever_asks_for_much_is_not_sent_away_for_hours() -> None:
    """A front gives nothing more to a replica that is busy, until that is over."""
    desk = Desk(Letters(), 1, 2)
    told = [desk.take(Generate(name, text="a", max_tokens=1 << 20)) for name in "wxyz"]
    (done,) = told[-1]
    assert isinstance(done, Done)
    assert done.retry_s == 5.0


class Letters:
    """A model's language in which some texts are no prompts."""

    vocabulary, context, ends = 100, 16, frozenset[int]()

    def encode(self, text: str) -> list[int]:
        if text == "no":
            raise RuntimeError("roles must alternate\nand more")
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> bytes:
        return bytes(ids)


def test_chance_is_even_and_stays_what_it_is() -> None:
    """Replicas of other versions must draw alike: these numbers are part of the protocol."""
    drawn = [chance(seed, place) for seed in range(50) for place in range(100)]
    assert np.histogram(drawn, 10, (0, 1))[0] == pytest.approx(500, rel=0.2)
    assert chance(0, 0) == CHANCE_OF_0
    assert chance((1 << 64) - 1, 5) != chance(0, 5)


CHANCE_OF_0 = 0.46879496023509626


@given(st.binary(max_size=40))
def test_characters_are_never_cut(data: bytes) -> None:
    text = BytesText(bytes)
    shown = [text.push(byte) for byte in data]
    assert "".join(shown) + text.rest() == data.decode(errors="replace")


@given(st.text(max_size=20))
def test_words_give_the_text_of_all_ids(told: str) -> None:
    data = told.encode()
    text = WordsText(lambda ids: bytes(ids).decode(errors="replace"))
    shown = [text.push(byte) for byte in data]
    assert "".join(shown) + text.rest() == told


@given(st.text("ab\n", max_size=30), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3))
def test_nothing_of_a_stop_text_is_shown(told: str, stops: list[str]) -> None:
    held = Stops(stops)
    shown = ""
    for character in told:
        shown += held.push(character)
        assert not any(stop in shown for stop in stops)
        if held.is_hit:
            break
    ends = {told.find(stop) + len(stop): told.find(stop) for stop in stops if stop in told}
    assert held.is_hit == bool(ends)
    whole = shown + held.rest()
    if held.is_hit:
        first = min(ends)
        begins = [first - len(s) for s in stops if told[:first].endswith(s)]
        assert whole == told[: min(begins)]
    else:
        assert whole == told
