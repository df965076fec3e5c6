"""The control plane's envelope: what every message between peers and clients is wrapped in.

A msgpack array [protocol version, cluster id, sender id, sender incarnation, kind, body].
Anything else – too large, mis-typed, another version or cluster – raises Malformed here and is
counted and dropped by the caller; it never gets further.
"""

from dataclasses import dataclass
from typing import Any

import msgpack

PROTOCOL_VERSION = 1
ENVELOPE_BYTES_MAX = 16 * 1024 * 1024
KINDS = frozenset({"raft", "snapshot", "report", "digest", "request", "reply", "prompt", "stream"})


class Malformed(Exception):
    """Bytes from the network that are not an envelope of this cluster."""


@dataclass(frozen=True, slots=True)
class Envelope:
    cluster: str
    sender: str
    incarnation: str
    kind: str
    body: dict[str, Any]


def encode(envelope: Envelope) -> bytes:
    packed: bytes = msgpack.packb(
        [
            PROTOCOL_VERSION,
            envelope.cluster,
            envelope.sender,
            envelope.incarnation,
            envelope.kind,
            envelope.body,
        ]
    )
    return packed


def decode(data: bytes, cluster: str) -> Envelope:
    if len(data) > ENVELOPE_BYTES_MAX:
        raise Malformed(f"{len(data)} bytes is more than {ENVELOPE_BYTES_MAX}")
    try:
        fields = msgpack.unpackb(data)
    except (ValueError, msgpack.UnpackException) as error:
        raise Malformed("not msgpack") from error
    if not isinstance(fields, list) or len(fields) != 6:
        raise Malformed("not an envelope")
    version, sent_to, sender, incarnation, kind, body = fields
    if version != PROTOCOL_VERSION:
        raise Malformed(f"protocol version {version!r}, ours is {PROTOCOL_VERSION}")
    if sent_to != cluster:
        raise Malformed(f"for cluster {sent_to!r}, ours is {cluster!r}")
    if not (isinstance(sender, str) and isinstance(incarnation, str) and isinstance(kind, str)):
        raise Malformed("mis-typed fields")
    if kind not in KINDS:
        raise Malformed(f"unknown kind {kind!r}")
    if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
        raise Malformed("body is not a map")
    return Envelope(sent_to, sender, incarnation, kind, body)
