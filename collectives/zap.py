"""The doorkeeper of encrypted sockets: without one, CURVE lets in any key (ZeroMQ RFC 27)."""

import threading
from collections.abc import Set

import zmq
from zmq.utils import z85

_ADDRESS = "inproc://zeromq.zap.01"  # fixed by RFC 27
_CREDENTIALS_AT = 6  # version, request id, domain, address, identity, mechanism, credentials…


class Doorkeeper:
    """Answers, on a thread of its own, who may connect to the CURVE sockets of one context.

    Lets in exactly the given client public keys (z85). Start it before binding; one per context.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", client_keys: Set[bytes]) -> None:
        self._allowed = frozenset(z85.decode(key) for key in client_keys)
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_ADDRESS)
        self._thread = threading.Thread(target=self._answer, name="zap", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the thread; it ends when its context is terminated."""
        self._thread.join(timeout=5.0)

    def _answer(self) -> None:
        try:
            while True:
                self._socket.send_multipart(self._verdict(self._socket.recv_multipart()))
        except zmq.ContextTerminated:
            pass
        finally:
            self._socket.close(linger=0)

    def _verdict(self, request: list[bytes]) -> list[bytes]:
        version, request_id = b"1.0", request[1] if len(request) > 1 else b""
        mechanism = request[5] if len(request) > 5 else b""
        known = (
            request[0] == version
            and mechanism == b"CURVE"
            and request[_CREDENTIALS_AT:][:1] != []
            and request[_CREDENTIALS_AT] in self._allowed
        )
        code, text = (b"200", b"OK") if known else (b"400", b"unknown key")
        return [version, request_id, code, text, b"", b""]
