"""What peers say to each other about files: ask for a slice, give it, or say why not. Pure.

An ask is one frame, an answer two: a msgpack array and the slice's own bytes (none if refused).
"""

from dataclasses import dataclass

import msgpack

VERSION = 1
SLICE_BYTES = 256 * 1024
HEAD_BYTES_MAX = 4 * 1024
REASON_CHARACTERS_MAX = 300
SHA256_CHARACTERS = 64
FILE_BYTES_MAX = 1 << 50


class MalformedSlice(Exception):
    """Bytes that are no ask and no answer of this cluster."""


@dataclass(frozen=True, slots=True)
class Ask:
    """`count` bytes from `offset` on of the file that has this hash and is `size` bytes long."""

    sha256: str
    size: int
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Slice:
    """The answer to an ask; `refusal` says why there are no bytes."""

    sha256: str
    offset: int
    data: bytes
    refusal: str = ""


NOT_HERE = "does not have it"  # the refusal of who may have it later


def is_sha256(text: object) -> bool:
    """Whether it is a hash as files are named by: 64 lower-case hexadecimal digits."""
    return (
        isinstance(text, str)
        and len(text) == SHA256_CHARACTERS
        and all(digit in "0123456789abcdef" for digit in text)
    )


def ask_to_frame(cluster: str, ask: Ask) -> bytes:
    packed: bytes = msgpack.packb(
        [VERSION, cluster, bytes.fromhex(ask.sha256), ask.size, ask.offset, ask.count]
    )
    return packed


def ask_from_frame(cluster: str, frame: bytes) -> Ask:
    """Raises MalformedSlice."""
    sha, size, offset, count = _fields(cluster, frame, 4)
    if not (isinstance(size, int) and isinstance(offset, int) and isinstance(count, int)):
        raise MalformedSlice("an ask is mis-typed")
    if not (0 <= offset <= offset + count <= size <= FILE_BYTES_MAX and 0 < count <= SLICE_BYTES):
        raise MalformedSlice("an ask is out of range")
    return Ask(_sha(sha), size, offset, count)


def slice_to_frames(cluster: str, given: Slice) -> tuple[bytes, bytes]:
    fields = [bytes.fromhex(given.sha256), given.offset, given.refusal[:REASON_CHARACTERS_MAX]]
    return msgpack.packb([VERSION, cluster, *fields]), given.data


def slice_from_frames(cluster: str, head: bytes, data: bytes) -> Slice:
    """Raises MalformedSlice."""
    sha, offset, refusal = _fields(cluster, head, 3)
    if type(offset) is not int or not isinstance(refusal, str) or len(data) > SLICE_BYTES:
        raise MalformedSlice("an answer is mis-typed")
    return Slice(_sha(sha), offset, data, "".join(filter(str.isprintable, refusal)))


def _fields(cluster: str, frame: bytes, count: int) -> list[object]:
    if len(frame) > HEAD_BYTES_MAX:
        raise MalformedSlice("too long")
    try:
        fields = msgpack.unpackb(frame)
    except (ValueError, msgpack.UnpackException) as error:
        raise MalformedSlice("not msgpack") from error
    if not isinstance(fields, list) or len(fields) != 2 + count or fields[:2] != [VERSION, cluster]:
        raise MalformedSlice("another version or cluster")
    return fields[2:]


def _sha(digest: object) -> str:
    if not isinstance(digest, bytes) or len(digest) != SHA256_CHARACTERS // 2:
        raise MalformedSlice("not a hash")
    return digest.hex()
