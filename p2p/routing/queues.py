"""The prompts that no replica has, in the order in which they shall be given to one. Pure.

They stand in lanes: all of a lane can be given to the same replicas, so if there is none for its
first, there is none for the others. Who has begun comes before who has not.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from p2p.routing.prompts import Prompt, Weights

Lane = OrderedDict[str, Prompt]  # by request
RANKED_EVERY_S = 1.0
_Kind = tuple[Weights | None, bool]  # the weights that it needs; whether it is a suspect
_FRESH: _Kind = (None, False)


@dataclass
class Queue:
    """Of one service."""

    _lanes: dict[_Kind, Lane] = field(default_factory=lambda: {_FRESH: Lane()})
    _ranks: dict[str, int] = field(default_factory=dict)
    _ranked_s: float = float("-inf")

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def add(self, prompt: Prompt, first: bool = False) -> None:
        """`first`: before the others of its kind."""
        lane = self._lanes.setdefault(_kind(prompt), Lane())
        lane[prompt.request] = prompt
        if first:
            lane.move_to_end(prompt.request, last=False)

    def remove(self, prompt: Prompt) -> None:
        kind = _kind(prompt)
        self._lanes.get(kind, Lane()).pop(prompt.request, None)
        self._tidy(kind)

    def heads(self) -> Iterator[Prompt]:
        """The first of each lane, in turn. While it is taken away, the next of that lane comes."""
        for kind in [*(kind for kind in self._lanes if kind != _FRESH), _FRESH]:
            lane = self._lanes.get(kind, Lane())
            tried = None
            while lane and (head := next(iter(lane.values()))) is not tried:
                tried = head
                yield head
            self._tidy(kind)

    def prompts(self) -> list[Prompt]:
        return [prompt for lane in self._lanes.values() for prompt in lane.values()]

    def ahead(self, prompt: Prompt, now_s: float) -> int:
        """About how many come before it: as of the last time they were counted."""
        if now_s - self._ranked_s >= RANKED_EVERY_S:
            self._ranked_s = now_s
            fresh = self._lanes[_FRESH]
            begun = len(self) - len(fresh)
            self._ranks = {request: begun + n for n, request in enumerate(fresh)}
        return self._ranks.get(prompt.request, len(self) if _kind(prompt) == _FRESH else 0)

    def _tidy(self, kind: _Kind) -> None:
        if kind != _FRESH and not self._lanes.get(kind, True):
            del self._lanes[kind]


def _kind(prompt: Prompt) -> _Kind:
    return prompt.needs, prompt.is_suspect
