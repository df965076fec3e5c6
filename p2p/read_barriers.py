"""Linearizable reads of a host: who waits for a confirmation, and who for the state to catch up."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from consensus.errors import ProposalDropped
from consensus.reads import ReadState

Done = Callable[[bool], None]


@dataclass(slots=True)
class _Waiting:
    done: Done
    deadline: int  # in ticks
    index: int | None = None  # readable once this is applied; None: not confirmed yet


class ReadBarriers:
    """Each attempt has a context of its own, so that no answer to an older one can confirm it."""

    def __init__(self, read_index: Callable[[bytes], None], timeout_ticks: int) -> None:
        self._read_index = read_index
        self._timeout_ticks = timeout_ticks
        self._ticks = 0
        self._count = 0
        self._leader: tuple[int, str | None] | None = None
        self._waiting: dict[bytes, _Waiting] = {}

    def ask(self, done: Done) -> None:
        """`done` is called exactly once, never from in here when a leader is known."""
        self._count += 1
        context = self._count.to_bytes(8, "big")
        try:
            self._read_index(context)
        except ProposalDropped:
            done(False)
            return
        self._waiting[context] = _Waiting(done, self._ticks + self._timeout_ticks)

    def tick(self, count: int) -> None:
        """Time passed: what waited for too long is given up."""
        self._ticks += count
        self._give_up(
            [context for context, item in self._waiting.items() if item.deadline <= self._ticks]
        )

    def leader_is(self, term: int, leader: str | None) -> None:
        """Another leader, or none, will not answer what the last one was asked."""
        if (term, leader) != self._leader:
            self._leader = term, leader
            self._give_up([key for key, item in self._waiting.items() if item.index is None])

    def confirmed(self, states: Iterable[ReadState]) -> None:
        """The core's answers."""
        for state in states:
            if state.context in self._waiting:
                self._waiting[state.context].index = state.index

    def applied(self, index: int) -> None:
        """The state holds everything up to `index`."""
        ready = [
            context
            for context, item in self._waiting.items()
            if item.index is not None and item.index <= index
        ]
        for context in ready:
            if (item := self._waiting.pop(context, None)) is not None:
                item.done(True)

    def _give_up(self, contexts: list[bytes]) -> None:
        for context in contexts:
            if (item := self._waiting.pop(context, None)) is not None:
                item.done(False)
