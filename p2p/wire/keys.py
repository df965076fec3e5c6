"""The cluster's key and its token.

One random secret is the whole credential. The CURVE server and client key pairs of all peers are
derived from it, so a holder of the token can check that it talks to the right cluster before
anything is sent, and a stranger cannot even complete the first handshake message: the server's
public key is never sent, and knowing it is what the HELLO proves (CurveZMQ, RFC 26).

Token: p2p1.<cluster id>.<first 16 hex of sha256(server public key)>.<secret, base64url>
"""

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass

from p2p.errors import Usage

TOKEN_PREFIX = "p2p1"
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair in Z85, as ZeroMQ takes it (40 characters each)."""

    public: bytes
    secret: bytes


@dataclass(frozen=True, slots=True)
class ClusterKey:
    cluster_id: str
    secret: bytes

    @staticmethod
    def fresh() -> "ClusterKey":
        return ClusterKey(secrets.token_hex(6), secrets.token_bytes(SECRET_BYTES))

    @property
    def server(self) -> KeyPair:
        return _derive(self.secret, b"p2p1 server")

    @property
    def client(self) -> KeyPair:
        return _derive(self.secret, b"p2p1 client")

    @property
    def token(self) -> str:
        coded = base64.urlsafe_b64encode(self.secret).rstrip(b"=").decode()
        return f"{TOKEN_PREFIX}.{self.cluster_id}.{_hash16(self.server.public)}.{coded}"


def parse_token(text: str) -> ClusterKey:
    """The key a token carries. Raises Usage when it is not a token or was damaged in copying."""
    parts = text.strip().split(".")
    if len(parts) != 4 or parts[0] != TOKEN_PREFIX or not parts[1].isalnum():
        raise Usage("that is not a token: it looks like p2p1.<cluster>.<hash>.<secret>")
    try:
        secret = base64.urlsafe_b64decode(parts[3] + "=" * (-len(parts[3]) % 4))
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise Usage("the token's last part is damaged: copy the whole token again")
    key = ClusterKey(parts[1], secret)
    if _hash16(key.server.public) != parts[2]:
        raise Usage("the token's parts do not belong together: copy the whole token again")
    return key


def _derive(secret: bytes, purpose: bytes) -> KeyPair:
    import zmq  # here, so that reading a token stays cheap for `--help` and usage errors
    from zmq.utils import z85

    raw = hashlib.blake2b(secret, digest_size=32, person=purpose[:16]).digest()
    private = z85.encode(raw)
    return KeyPair(zmq.curve_public(private), private)


def _hash16(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]
