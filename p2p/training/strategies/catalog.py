"""The strategies there are, by name, without importing torch: for peers, help texts and checks.

A new strategy = one file with its class, one line in STRATEGIES.
"""

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from p2p.errors import Usage
from p2p.training.strategies.robust_guard import RULES

Value = int | float | str


@dataclass(frozen=True)
class Option:
    """One setting of a strategy: a number of the default's type within [least, most], or one of
    `choices`."""

    name: str
    default: Value
    summary: str
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> Value:
        """Raises Usage, naming the option and what it may be."""
        if isinstance(self.default, str):
            if self.choices and text not in self.choices:
                raise Usage(f"{self.name} is {text!r}: there is {', '.join(self.choices)}")
            return text
        try:
            value = type(self.default)(text)
        except ValueError:
            value = math.nan
        if not self.least <= value <= self.most:
            kind = "a whole number" if isinstance(self.default, int) else "a number"
            upper = "" if self.most == math.inf else f" to {self.most:g}"
            raise Usage(f"{self.name} is {text!r}: it must be {kind} from {self.least:g}{upper}")
        return value


@dataclass(frozen=True)
class Entry:
    """Where a strategy is; `options` are those that `--set` and `p2pnode set` may give it."""

    name: str
    module: str
    class_name: str
    summary: str
    options: tuple[Option, ...] = ()
    codecs: tuple[str, ...] = ()  # those that it can sum by; none = all
    one_voice: bool = False  # each trainer counts as one, so shards are dealt out evenly

    def check_codec(self, codec: str) -> None:
        """Raises Usage where this strategy cannot sum by that codec."""
        if self.codecs and codec not in self.codecs:
            raise Usage(
                f"{self.name} cannot sum by {codec}: its codecs are {', '.join(self.codecs)}"
            )

    def parse(self, given: Mapping[str, str]) -> dict[str, Value]:
        """Every option's value; what is not given has its default. Raises Usage."""
        return {
            option.name: option.parse(given[option.name])
            if option.name in given
            else option.default
            for option in self.options
        }

    def load(self) -> Any:
        """The class; imports torch."""
        return getattr(importlib.import_module(self.module), self.class_name)


STRATEGIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "ring",
            "p2p.training.strategies.ring",
            "Ring",
            "all-reduce of every step's gradient; the same bits for any peers",
        ),
        Entry(
            "local-sgd",
            "p2p.training.strategies.local_sgd",
            "LocalSgd",
            "every shard makes some steps by itself, then all agree on their average",
            (
                Option("local_steps", 8, "steps between two exchanges", least=1, most=100_000),
                Option("outer_lr", 0.7, "how far to go towards the average", least=0.0),
                Option("outer_momentum", 0.9, "Nesterov's, between rounds", least=0.0, most=1.0),
                Option(
                    *("inner_state", "average", "what becomes of the optimizer's moments"),
                    choices=("average", "reset"),
                ),
            ),
        ),
        Entry(
            "robust",
            "p2p.training.strategies.robust",
            "Robust",
            "an average that some trainers' garbage cannot spoil, and that names them",
            (
                Option("rule", "median", "how contributions are averaged", choices=RULES),
                Option("faulty", 1, "how many trainers may send garbage", least=0, most=1000),
            ),
            codecs=("int32",),  # the default; its rows travel as they are
            one_voice=True,
        ),
        Entry(
            "parameter-server",
            "p2p.training.strategies.parameter_server_async",
            "parameter_server",
            "each parameter is updated by one peer, with a backup on another; the bits of ring",
            (
                Option(
                    *("staleness", 0, "steps that a peer may be ahead of the slowest; 0 = none"),
                    least=0,
                    most=64,
                ),
            ),
            codecs=("int32", "int16", "int8"),
        ),
    )
}


def find(name: str) -> Entry:
    """Raises Usage with the names there are."""
    if name not in STRATEGIES:
        raise Usage(f"no strategy {name!r}: there is {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
