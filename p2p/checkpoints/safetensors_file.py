"""The safetensors format, as far as we write and read it: a header of JSON, then raw tensors.

Pure, and without torch: a client joins the parts of a checkpoint to one model by it. The format is
https://huggingface.co/docs/safetensors: 8 bytes length (little-endian), the header, the data.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

HEADER_BYTES_MAX = 100_000_000  # the format's own limit
LENGTH = struct.Struct("<Q")
_METADATA = "__metadata__"


class Malformed(Exception):
    """The bytes are no safetensors header; the message says what is wrong with them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor: bytes [begin, end) of the data. `dtype` as the format calls it, such as F32."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header(
    entries: Iterable[Entry], metadata: Mapping[str, str], alignment: int = LENGTH.size
) -> bytes:
    """Length and header; the data follow, at a multiple of `alignment`. `metadata` goes beside the
    tensors, as text."""
    told: dict[str, object] = {_METADATA: dict(metadata)}
    for each in entries:
        place = [each.begin, each.end]
        told[each.name] = {"dtype": each.dtype, "shape": each.shape, "data_offsets": place}
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-(LENGTH.size + len(text)) % alignment)
    return LENGTH.pack(len(text)) + text


def header_bytes(first: bytes) -> int:
    """How long length and header are together, from the file's first 8 bytes. Raises Malformed."""
    if len(first) < LENGTH.size:
        raise Malformed("it is cut short")
    (size,) = LENGTH.unpack_from(first)
    if size > HEADER_BYTES_MAX:
        raise Malformed("its header is too long")
    return LENGTH.size + int(size)


def parse(head: bytes) -> tuple[list[Entry], dict[str, str]]:
    """What `header` was given, entries by their place. Raises Malformed."""
    try:
        told = json.loads(head[LENGTH.size :])
        metadata = {str(key): str(text) for key, text in told.pop(_METADATA, {}).items()}
        entries = [
            Entry(
                *(str(name), str(each["dtype"]), tuple(int(size) for size in each["shape"])),
                *(int(place) for place in each["data_offsets"]),
            )
            for name, each in told.items()
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Malformed("its header makes no sense") from error
    entries.sort(key=lambda each: each.begin)
    at = 0
    for each in entries:
        if each.begin != at or each.end < at:
            raise Malformed("its tensors do not follow one another")
        at = each.end
    return entries, metadata
