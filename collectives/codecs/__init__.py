"""How gradients travel: one file per codec, all behind one interface (codec.py).

    check("topk:0.01", shards)              # when a job is submitted: ValueError with a sentence
    codec = build("int8", vector)           # on every trainer
    finite = codec.reduce(group, rows, numbers, step, out)
    codec.keep(out)

Imports neither torch nor sockets: the peer process uses `check`.
"""

from collectives.codecs.bf16 import Bf16
from collectives.codecs.codec import Codec, Group, Vector
from collectives.codecs.exact import WithExactPart
from collectives.codecs.float32 import Float32
from collectives.codecs.int8 import Int8
from collectives.codecs.int16 import Int16
from collectives.codecs.int32 import Int32
from collectives.codecs.powersgd import PowerSGD
from collectives.codecs.topk import TopK

CODECS: tuple[type[Codec], ...] = (Int32, Int16, Int8, Float32, Bf16, TopK, PowerSGD)

__all__ = ["CODECS", "Codec", "Group", "Vector", "build", "check", "help_text"]


def build(text: str, vector: Vector) -> Codec:
    """The codec that `text` names, NAME or NAME:OPTION. Raises ValueError as `check` does."""
    codec, option = _parse(text)
    _check_shards(codec, vector.shards)
    if codec.lossy and vector.exact_from is not None and vector.exact_from < vector.length:
        return WithExactPart(codec, vector, option)
    return codec(vector, option)


def check(text: str, shards: int) -> None:
    """Raises ValueError, one sentence, for what `build` would refuse."""
    codec, _ = _parse(text)
    _check_shards(codec, shards)


def help_text() -> str:
    """All names with their options, in one line."""
    return ", ".join(
        f"{codec.name}[:{codec.option_name.upper()}]" if codec.option_name else codec.name
        for codec in CODECS
    )


def _parse(text: str) -> tuple[type[Codec], float]:
    name, colon, option_text = text.partition(":")
    codec = next((codec for codec in CODECS if codec.name == name), None)
    if codec is None:
        names = ", ".join(codec.name for codec in CODECS)
        raise ValueError(f"no codec {name!r}: there is {names}")
    if not colon:
        return codec, codec.option_default
    if codec.option_name is None:
        raise ValueError(f"codec {name} takes no option, so not {text!r}")
    try:
        option = float(option_text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no codec: after {name}: comes the {codec.option_name}, a number"
        ) from None
    codec.check(option)
    return codec, option


def _check_shards(codec: type[Codec], shards: int) -> None:
    if not 1 <= shards <= codec.shards_max:
        raise ValueError(
            f"codec {codec.name} sums at most {codec.shards_max} shards, not {shards}: "
            "submit with fewer --shards or another --codec"
        )
