"""What the clients ask: prompts with their options, all drawn from one seed. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

Messages = list[dict[str, str]]

CONTEXT = 512  # of the model that is served: prompt and answer together
SHORT, LONG, CONVERSATIONS = 12, 12, 3
SHORT_MAX, LONG_MIN, LONG_MAX, TURN_MAX = 24, 270, 400, 60  # tokens of an answer
BEGINNINGS = (
    *("def main", "The ", "import os\n", "class Peer:\n    def ", "# what follows is ", "'''"),
    *("x", "é–", "return [each for each in " * 4),
)
SAMPLINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.8, "top_k": 40},
    {"temperature": 1.3, "top_p": 0.9},
)
STOPS: tuple[list[str], ...] = ([], [], ["\n\n", "zz"])
TURNS = ("What is a peer?", "And who leads?", "Say that again, shorter.")


@dataclass(frozen=True, slots=True)
class Question:
    """`options` are those of Client.generate; `chain` names the conversation whose turn it is."""

    key: str
    prompt: str | Messages
    options: Mapping[str, Any]
    chain: str = ""

    def args(self) -> dict[str, Any]:
        """Of the request `generate`, but its name and time."""
        given = {"text": self.prompt} if isinstance(self.prompt, str) else {"messages": self.prompt}
        return {**given, **self.options, "sent": []}


@dataclass(frozen=True, slots=True)
class Said:
    """A whole answer."""

    ids: tuple[int, ...]
    text: str


def questions(seed: int, answer: Callable[[Question], Said]) -> list[tuple[Question, Said]]:
    """With their answers. A turn of a conversation tells what was answered before."""
    rng = Random(f"questions {seed}")
    made: list[tuple[Question, Said]] = []
    for number in range(SHORT + LONG):
        least, most = (1, SHORT_MAX) if number < SHORT else (LONG_MIN, LONG_MAX)
        options = {**_options(rng, rng.randint(least, most)), "stop": rng.choice(STOPS)}
        question = Question(f"q{number}", rng.choice(BEGINNINGS), options)
        made.append((question, answer(question)))
    for number in range(CONVERSATIONS):
        messages: Messages = []
        for turn, text in enumerate(TURNS):
            messages = [*messages, {"role": "user", "content": text}]
            options = _options(rng, rng.randint(TURN_MAX // 2, TURN_MAX))
            question = Question(f"c{number}.{turn}", messages, options, f"c{number}")
            said = answer(question)
            made.append((question, said))
            messages = [*messages, {"role": "assistant", "content": said.text}]
    return made


def _options(rng: Random, max_tokens: int) -> dict[str, Any]:
    sampling = rng.choice(SAMPLINGS)
    return {**sampling, "seed": rng.getrandbits(32), "max_tokens": max_tokens}


# What is wrong with some prompts, and words of the sentence that says so.
BAD: tuple[tuple[str | Messages, dict[str, Any], str], ...] = (
    ("", {}, "the prompt is empty"),
    ("much " * CONTEXT, {}, f"context is {CONTEXT}"),
    ("x" * (1 << 20 | 1), {}, "1048576"),
    ("x", {"max_tokens": 0}, "max_tokens"),
    ("x", {"temperature": -1.0}, "temperature"),
    ("x", {"top_p": float("nan")}, "top_p"),
    ("x", {"model": "none-of-that-name"}, "none-of-that-name"),
    ([{"role": "nobody", "content": "x"}], {}, "role"),
    ([], {}, "messages is empty"),
)
