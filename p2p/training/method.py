"""How a job's trainers exchange: by which strategy and codec, with which options.

Pure, and without torch: the peers check and agree on it, every generation carries it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from collectives import codec_names
from p2p.errors import Usage
from p2p.training.strategies import catalog

AUTO = "auto"
# What `auto` may choose from: "any" includes what makes the weights depend on who takes part.
ALLOW = catalog.Option("allow", "order-free", "what auto may choose", choices=("order-free", "any"))


@dataclass(frozen=True, slots=True)
class Method:
    """`revision` counts how often it was set since the job was submitted: what a strategy keeps
    between steps goes on as long as it stays. `auto` = the trainers may ask for another one.
    `options` also has those of the task and of other strategies, as texts."""

    strategy: str
    codec: str
    options: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0
    auto: bool = False
    reason: str = ""

    def to_order(self) -> dict[str, Any]:
        """As the order of a generation tells it to a trainer."""
        told = {"strategy": self.strategy, "codec": self.codec, "options": dict(self.options)}
        return {**told, "revision": self.revision, "auto": self.auto}

    @classmethod
    def from_order(cls, told: Mapping[str, Any]) -> "Method":
        return cls(**told)


def codec_summaries() -> dict[str, str]:
    """Every codec's name and what it does, for menus."""
    return {named.name: named.summary for named in codec_names.NAMES.values()}


def submitted(strategy: str, codec: str, options: Mapping[str, str] | None) -> Method:
    """As a job begins. With "auto", the first strategy and the given codec until it is known
    better."""
    if strategy == AUTO:
        return Method(next(iter(catalog.STRATEGIES)), codec, dict(options or {}), auto=True)
    return Method(strategy, codec, dict(options or {}))


# What these sum does not depend on who takes part, and they remember nothing of a shard.
_CODECS_OF_ONE_HISTORY = ("int32", "int16", "int8")


def has_one_history(method: Method) -> bool:
    """Whether every step has one result, whoever computes it and whoever was lost on the way."""
    alike = not catalog.find(method.strategy).one_voice
    return alike and method.codec in _CODECS_OF_ONE_HISTORY


def check(method: Method, shards: int) -> None:
    """Raises Usage, in a sentence, for a strategy, codec or option that cannot be."""
    entry = catalog.find(method.strategy)
    entry.parse(method.options)
    if method.auto:  # it may go over to any of these
        allows_any(method)
        for other in catalog.STRATEGIES.values():
            other.parse(method.options)
    entry.check_codec(method.codec)
    try:
        codec_names.parse(method.codec, shards)
    except ValueError as error:
        raise Usage(str(error)) from error


def allows_any(method: Method) -> bool:
    """Whether "auto" may choose what does not keep the weights independent of who takes part.
    Raises Usage."""
    return method.auto and ALLOW.parse(method.options.get(ALLOW.name, str(ALLOW.default))) == "any"


def changed(method: Method, changes: Mapping[str, str], shards: int) -> Method:
    """With these settings: strategy, codec, or an option of the strategy. Raises Usage.

    The user decides: to name a strategy or codec ends "auto".
    """
    if not changes:
        raise Usage("nothing to set: give key=value, such as strategy=ring")
    strategy = changes.get("strategy", method.strategy)
    auto = strategy == AUTO
    if auto:
        strategy = method.strategy
    options = {name: text for name, text in changes.items() if name not in ("strategy", "codec")}
    entry = catalog.find(strategy)
    known = [option.name for option in entry.options]
    if auto or (method.auto and "strategy" not in changes):
        known.append(ALLOW.name)
    for name in options:
        if name not in known:
            there = ", ".join(["strategy", "codec", *known])
            raise Usage(f"{name} cannot be set while the strategy is {strategy}: there is {there}")
    made = Method(
        strategy,
        changes.get("codec", method.codec),
        {**method.options, **options},
        method.revision + 1,
        auto or (method.auto and not changes.keys() & {"strategy", "codec"}),
        ", ".join(f"{name} set to {text}" for name, text in changes.items()),
    )
    check(made, shards)
    return made
