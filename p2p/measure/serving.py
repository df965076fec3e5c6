"""What a front of prompts measures, by service: how many are answered, and how soon. Pure.

A prompt counts at the peer whose client asked it, whichever peer's replica answers.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from p2p.measure.history import Summary


class ServingFigures:
    """What happened since it was read last, so that the slowest of many prompts is not lost."""

    def __init__(self) -> None:
        self._answered: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._took: dict[tuple[str, str], Summary] = {}  # by service and name

    def tokens(self, service: str, count: int) -> None:
        self._tokens[service] += count

    def first_token(self, service: str, after_s: float) -> None:
        self._keep(service, "first_token_s", after_s)

    def answered(self, service: str, after_s: float) -> None:
        self._answered[service] += 1
        self._keep(service, "answer_s", after_s)

    def _keep(self, service: str, name: str, took_s: float) -> None:
        told, known = Summary.of(took_s), self._took.get((service, name))
        self._took[service, name] = told if known is None else known.and_then(told)

    def read(
        self,
        services: Iterable[str],
        prompts: Mapping[str, int],
        waiting: Mapping[str, int],
        passed_s: float,
    ) -> dict[str, Summary | float]:
        """By metric, of the services that there are. `prompts` of this peer's clients that are not
        answered yet, those that are `waiting` for a replica among them.
        """
        found: dict[str, Summary | float] = {}
        for service in services:
            waits = waiting.get(service, 0)
            told: dict[str, Summary | float] = {
                "requests_per_s": self._answered[service] / passed_s,
                "tokens_per_s": self._tokens[service] / passed_s,
                "waiting": float(waits),
                "answering": float(prompts.get(service, 0) - waits),
            }
            for name in ("first_token_s", "answer_s"):
                if (took := self._took.get((service, name))) is not None:
                    told[name] = took
            found |= {f"serve.{service}.{name}": value for name, value in told.items()}
        self._answered.clear()
        self._tokens.clear()
        self._took.clear()
        return found
