"""Which codecs there are, and what may follow their names: for peers, help texts and checks.

Imports nothing of weight (numpy adds 11 MB to a peer); collectives.codecs has the codecs.
"""

from collections.abc import Callable
from dataclasses import dataclass

RANK_MAX = 64  # of powersgd


@dataclass(frozen=True)
class Option:
    """A number that may follow a codec's name and a colon. `check` raises ValueError."""

    name: str
    default: float
    check: Callable[[float], None]


@dataclass(frozen=True)
class Named:
    """`shards_max` = how many shards' vectors it can sum."""

    name: str
    summary: str
    option: Option | None = None
    shards_max: int = 4096


def _check_ratio(option: float) -> None:
    if not 0 < option <= 1:
        raise ValueError(f"the ratio of topk is the share of values sent: {option:g} is none")


def _check_rank(option: float) -> None:
    if not (1 <= option <= RANK_MAX and option == int(option)):
        raise ValueError(
            f"the rank of powersgd is a whole number from 1 to {RANK_MAX}, not {option:g}"
        )


# A new codec = one file and its line in collectives.codecs.CODECS, and one here; the first is the
# one that is used when none is named.
NAMES: dict[str, Named] = {
    named.name: named
    for named in (
        Named(
            "int32",
            "whole numbers of 32 bits, as exact as float32; same bits for any membership",
            shards_max=1 << 16,
        ),
        Named("int16", "whole numbers of 16 bits, rounded by chance; same bits for any membership"),
        Named(
            "int8",
            "whole numbers of 8 bits, rounded by chance; same bits for any membership",
            shards_max=127,  # beyond, a shard would have no level but zero
        ),
        Named("float32", "plain floating point: the bits depend on the membership"),
        Named("bf16", "bfloat16: half the bytes; the bits depend on the membership"),
        Named(
            "topk",
            "only the largest values, the others later; same bits for any membership",
            Option("ratio", 0.01, _check_ratio),
        ),
        Named(
            "powersgd",
            "matrices as products of thin ones, the rest later; same bits for any membership",
            Option("rank", 4, _check_rank),
        ),
    )
}


def parse(text: str, shards: int) -> tuple[Named, float]:
    """NAME or NAME:OPTION; the option's value. Raises ValueError, one sentence."""
    name, colon, option_text = text.partition(":")
    named = NAMES.get(name)
    if named is None:
        raise ValueError(f"no codec {name!r}: there is {', '.join(NAMES)}")
    if not 1 <= shards <= named.shards_max:
        raise ValueError(
            f"codec {name} sums at most {named.shards_max} shards, not {shards}: "
            "submit with fewer --shards or another --codec"
        )
    if not colon:
        return named, named.option.default if named.option else 0.0
    if named.option is None:
        raise ValueError(f"codec {name} takes no option, so not {text!r}")
    try:
        option = float(option_text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no codec: after {name}: comes the {named.option.name}, a number"
        ) from None
    named.option.check(option)
    return named, option


def help_text() -> str:
    """All names with their options, in one line."""
    return ", ".join(
        f"{named.name}[:{named.option.name.upper()}]" if named.option else named.name
        for named in NAMES.values()
    )
