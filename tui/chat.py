"""A person's prompts and the answers to them, and what may be asked now. Pure.

Asking changes nothing that the cluster agreed on, so a read-only screen may. But it takes time of
replicas that others wait for: such a screen gets short answers, and rests after each as long as it
took (docs/decisions/025-a-prompt-is-no-control.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tui.told import Model

TURNS_MAX = 50
MESSAGES_MAX = 40  # that a chat model is told again
TOKENS = 256  # of an answer, where nobody said another number
READ_ONLY_TOKENS_MAX = 256

Question = str | list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Answered:
    """Who gave an answer that has ended. `first_s` until its first token was here."""

    reason: str
    peer: str
    replica: str
    tokens: int
    seconds: float
    seed: int
    moves: int
    first_s: float | None


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt and what came of it so far. Times are monotonic."""

    number: int
    model: str  # its id
    name: str
    prompt: str
    asked_s: float
    text: str = ""
    tokens: int = 0
    peer: str = ""  # who answers now
    ended_s: float | None = None
    end: Answered | None = None
    problem: str = ""
    stopped: bool = False

    @property
    def is_open(self) -> bool:
        return self.ended_s is None


@dataclass(frozen=True, slots=True)
class Chat:
    """`conversation` keeps prompts at the replica that has what was said in its cache. `line` are
    the options as they were typed, `options` as they are asked with. A read-only screen rests until
    `rests_until_s`.
    """

    turns: tuple[Turn, ...] = ()
    conversation: str = ""
    line: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    rests_until_s: float = 0.0

    @property
    def open(self) -> Turn | None:
        """The answer that is being given."""
        return self.turns[-1] if self.turns and self.turns[-1].is_open else None

    @property
    def prompts(self) -> tuple[str, ...]:
        """What was asked, oldest first, each once."""
        return tuple(dict.fromkeys(reversed([turn.prompt for turn in self.turns])))[::-1]


def begun(chat: Chat, model: Model, prompt: str, now_s: float) -> Chat:
    number = chat.turns[-1].number + 1 if chat.turns else 1
    turn = Turn(number, model.id, model.name, prompt, now_s)
    return replace(chat, turns=(*chat.turns, turn)[-TURNS_MAX:])


def changed(chat: Chat, number: int, **changes: Any) -> Chat:
    """With these changes to a turn; one that is gone is not missed."""
    turns = tuple(replace(t, **changes) if t.number == number else t for t in chat.turns)
    return replace(chat, turns=turns)


def ended(chat: Chat, number: int, now_s: float, **changes: Any) -> Chat:
    """With the end of a turn, after which a read-only screen rests as long as it took."""
    took_s = sum(now_s - turn.asked_s for turn in chat.turns if turn.number == number)
    after = changed(chat, number, ended_s=now_s, **changes)
    return replace(after, rests_until_s=now_s + took_s)


def afresh(chat: Chat) -> Chat:
    """Nothing said, the same options; and whoever rests goes on resting."""
    return Chat(line=chat.line, options=chat.options, rests_until_s=chat.rests_until_s)


def question(chat: Chat, model: Model, prompt: str) -> Question:
    """The prompt; for a chat model with what was said before."""
    if not model.is_chat:
        return prompt
    said = []
    for turn in chat.turns:
        if turn.model == model.id and turn.text:
            said.append({"role": "user", "content": turn.prompt})
            said.append({"role": "assistant", "content": turn.text})
    return [*said[-MESSAGES_MAX:], {"role": "user", "content": prompt}]


def asked_with(chat: Chat, read_only: bool) -> dict[str, Any]:
    """The options of the next prompt."""
    options = dict(chat.options)
    if read_only:
        wanted = options.get("max_tokens", TOKENS)
        options["max_tokens"] = min(wanted, READ_ONLY_TOKENS_MAX)
    return options


def rests_s(chat: Chat, now_s: float) -> float:
    """How much longer a read-only screen rests."""
    return max(0.0, chat.rests_until_s - now_s)


def told_options(chat: Chat, read_only: bool) -> str:
    """The options of the next prompt, in words."""
    options = asked_with(chat, read_only)
    words = [
        f"temperature {options.get('temperature', 0):g}",
        f"{options.get('max_tokens', TOKENS):,} tokens",
        f"seed {options['seed']}" if "seed" in options else "any seed",
    ]
    words += [
        f"{name.replace('_', '-')} {options[name]:g}"
        for name in ("top_k", "top_p")
        if name in options
    ]
    if "stop" in options:
        words.append("stops at " + ", ".join(map(repr, options["stop"])))
    return ", ".join(words)
