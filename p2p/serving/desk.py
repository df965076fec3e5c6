"""All requests of one replica, from the order to Done: orders in, rows out, scores in, news out.

Pure: what computes is p2p.serving.models, what talks p2p.serving.replica.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from p2p.serving.answer import Answer
from p2p.serving.batching import Batch, Busy, Row, Stream
from p2p.serving.messages import Cancel, Done, Generate, News, Order, Tokens
from p2p.serving.messages import Stream as Told
from p2p.serving.sampling import Scores, are_numbers, draw
from p2p.serving.text import BytesText, Text

RETRY_LEAST_S, RETRY_MOST_S = 0.1, 5.0
STEP_S = 0.01  # of a step, until one was measured
REMEMBERED = 0.9  # of the measured steps before the last one


NO_NUMBERS = "the model gives NaN or Inf for this prompt: its weights are damaged, or overflow"


class Language(Protocol):
    """What a model reads and writes (docs/serving.md)."""

    vocabulary: int
    context: int
    ends: frozenset[int]

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> bytes: ...


class Desk:
    def __init__(self, language: Language, slots: int, waiting_max: int) -> None:
        self._language, self._slots = language, slots
        self._batch = Batch(slots, language.context, waiting_max)
        self._answers: dict[str, Answer] = {}
        self._step_s = STEP_S
        text = getattr(language, "text", None)  # for tokens that are no pieces of UTF-8
        self._text: Callable[[], Text] = text or (lambda: BytesText(language.decode))

    def take(self, order: Order) -> list[News]:
        """An order of the peer; what is to be said at once."""
        if isinstance(order, Generate):
            return self._begin(order)
        if isinstance(order, Cancel):
            stream = self._batch.find(order.request)
            return [self._end(stream, "cancelled")] if stream else []
        return []

    def plan(self) -> list[Row]:
        return self._batch.plan()

    def computed(self, rows: Sequence[Row], scores: Scores, seconds: float) -> list[News]:
        """The scores of the wanted of `plan`'s rows."""
        self._step_s = REMEMBERED * self._step_s + (1 - REMEMBERED) * seconds
        streams = list(self._batch.computed(rows))
        drawn = draw(scores, [s.asked.sampling for s in streams], [s.answered for s in streams])
        told, done = [], []
        for stream, token, is_drawn in zip(streams, drawn, are_numbers(scores), strict=True):
            request = stream.asked.request
            if not is_drawn:
                done.append(replace(self._end(stream, "error"), error=NO_NUMBERS))
                continue
            if token in self._language.ends:
                done.append(self._end(stream, "stop"))
                continue
            stream.ids.append(token)
            try:
                text = self._answers[request].push(token)
            except Exception as error:  # the tokenizer is the task's
                done.append(self._failed(stream, f"token {token} is no text: {error!r:.200}"))
                continue
            told.append(Told(request, (token,), text))
            done += self._over(stream)
        tokens = [Tokens(tuple(told), self._batch.running, self._batch.waiting)] if told else []
        return [*tokens, *done]

    def fail(self, slot: int, error: str) -> Done:
        """The stream there cannot be computed."""
        return self._failed(self._batch.at(slot), error)

    def _begin(self, asked: Generate) -> list[News]:
        if asked.request in self._batch:
            return []  # asked twice, answered once
        try:
            prompt = self._prompt(asked)
            answer = Answer(self._text(), asked.stop, asked.sent)
            stream = self._batch.add(asked, prompt)
        except Busy:
            waits_s = self._batch.waiting * asked.max_tokens * self._step_s / self._slots
            # Nobody knows how soon those that wait are done: at most so long nobody need ask.
            retry_s = min(max(RETRY_LEAST_S, waits_s), RETRY_MOST_S)
            error = f"busy: {self._batch.waiting} requests wait; ask again in {retry_s:.1f} s"
            return [Done(asked.request, "error", 0, 0, error=error, retry_s=retry_s)]
        except ValueError as error:
            return [Done(asked.request, "error", 0, 0, error=str(error))]
        self._answers[asked.request] = answer
        return list(self._over(stream))

    def _prompt(self, asked: Generate) -> list[int]:
        """Raises ValueError with a sentence."""
        prompt = list(asked.tokens) if asked.tokens is not None else self._encoded(asked)
        ids = (*prompt, *asked.sent)
        if ids and not 0 <= min(ids) <= max(ids) < self._language.vocabulary:
            wrong = min(ids) if min(ids) < 0 else max(ids)
            raise ValueError(f"token {wrong} is none of the model's {self._language.vocabulary}")
        return prompt

    def _encoded(self, asked: Generate) -> list[int]:
        """By the model's own code, which may refuse what it is given: a role that its template
        does not know, say. That is this prompt's end, not the replica's."""
        language = self._language
        try:
            if asked.messages is None:
                return language.encode(asked.text or "")
            chat = getattr(language, "chat", None) or plain_chat
            return language.encode(chat([dict(message) for message in asked.messages]))
        except Exception as error:
            first = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ValueError(f"the model does not take this prompt: {first:.300}") from error

    def _over(self, stream: Stream) -> list[Done]:
        if self._answers[stream.asked.request].is_stopped:
            return [self._end(stream, "stop")]
        return [self._end(stream, "length")] if self._batch.is_full(stream) else []

    def _failed(self, stream: Stream, error: str) -> Done:
        request = stream.asked.request
        self._batch.end(request)
        del self._answers[request]
        return Done(request, "error", stream.prompt, stream.answered, error=error)

    def _end(self, stream: Stream, reason: str) -> Done:
        request = stream.asked.request
        self._batch.end(request)
        rest = self._answers.pop(request).rest()
        return Done(request, reason, stream.prompt, stream.answered, rest)


def plain_chat(messages: Sequence[dict[str, str]]) -> str:
    """A conversation for a model that was never told how one is written."""
    lines = [f"{message['role']}: {message['content']}\n" for message in messages]
    return "".join(lines) + "assistant:"
