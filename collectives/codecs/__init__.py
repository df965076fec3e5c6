"""How gradients travel: one file per codec, all behind one interface (codec.py).

    codec = build("int8", vector)           # on every trainer
    finite = codec.reduce(group, rows, numbers, step, out)
    codec.keep(out)

Their names and what may follow these are in collectives.codec_names, which imports no numpy.
"""

from collectives.codec_names import parse
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

__all__ = ["CODECS", "Codec", "Group", "Vector", "build"]


def build(text: str, vector: Vector) -> Codec:
    """The codec that `text` names, NAME or NAME:OPTION. Raises ValueError as `parse` does."""
    named, option = parse(text, vector.shards)
    codec = next(codec for codec in CODECS if codec.name == named.name)
    if codec.lossy and vector.exact_from is not None and vector.exact_from < vector.length:
        return WithExactPart(codec, vector, option)
    return codec(vector, option)
