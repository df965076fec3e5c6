"""The way to one peer's files: first its control socket, to ask for the port, then that port."""

import uuid
from collections import deque
from typing import Any

import zmq

from p2p.content.messages import HEAD_BYTES_MAX, SLICE_BYTES
from p2p.wire.addresses import parse_address
from p2p.wire.envelope import Envelope, Malformed, decode, encode
from p2p.wire.keys import ClusterKey
from p2p.wire.sockets import dealer

ROUND_MESSAGES_MAX = 32
UNSENT_MAX = 1_024


class Remote:
    """Never blocks and never raises for what the network does: who does not answer is silent."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        key: ClusterKey,
        address: str,
        me: str,
        poller: zmq.Poller,
    ) -> None:
        self._context, self._key, self._poller = context, key, poller
        self._host = parse_address(address)[0]
        self.used_s = 0.0
        self._unsent: deque[bytes] = deque()
        self._is_asking = True  # for the port
        self._id = uuid.uuid4().hex
        body = {"id": self._id, "verb": "content", "args": {}}
        self._question: bytes | None = encode(
            Envelope(key.cluster_id, f"content-{me}", "", "request", body)
        )
        self._dealer = self._connect(address)

    def say(self, frame: bytes) -> None:
        """Leaves as soon as there is a connection. What is too much is lost."""
        if len(self._unsent) < UNSENT_MAX:
            self._unsent.append(frame)

    def send(self, now_s: float) -> None:
        if self._unsent or self.used_s == 0.0:
            self.used_s = now_s
        if self._dealer is None:
            return
        try:
            if self._is_asking:
                if self._question is not None:
                    self._dealer.send(self._question, zmq.NOBLOCK)
                    self._question = None
                return
            while self._unsent:
                self._dealer.send(self._unsent[0], zmq.NOBLOCK)
                self._unsent.popleft()
        except zmq.ZMQError:
            return  # not connected yet, or not any more

    def receive(self) -> list[list[bytes]]:
        """The answers that have come, as frames."""
        answers: list[list[bytes]] = []
        for _ in range(ROUND_MESSAGES_MAX):
            if self._dealer is None:
                break
            try:
                frames = self._dealer.recv_multipart(zmq.NOBLOCK)
            except zmq.ZMQError:
                break
            if self._is_asking:
                self._take_port(frames)
            elif len(frames) == 2:
                answers.append(frames)
        return answers

    def close(self) -> None:
        if self._dealer is not None:
            self._poller.unregister(self._dealer)
            self._dealer.close(0)
            self._dealer = None

    def _take_port(self, frames: list[bytes]) -> None:
        try:
            reply = decode(frames[0], self._key.cluster_id)
        except Malformed:
            return
        told: Any = reply.body.get("ok")
        port = told.get("port") if isinstance(told, dict) else None
        if reply.body.get("id") != self._id or type(port) is not int or not 0 < port < 65_536:
            return
        self.close()
        self._is_asking = False
        self._dealer = self._connect(f"{self._host}:{port}")

    def _connect(self, address: str) -> "zmq.Socket[bytes] | None":
        sock = dealer(self._context, self._key, SLICE_BYTES + HEAD_BYTES_MAX)
        try:
            sock.connect(f"tcp://{address}")
        except zmq.ZMQError:
            sock.close(0)
            return None
        self._poller.register(sock, zmq.POLLIN)
        return sock
