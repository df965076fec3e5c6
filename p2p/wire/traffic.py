"""What a peer has sent and taken in since its start, for whoever measures it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Bytes are those of envelopes, before ZeroMQ encrypts and frames them."""

    messages_sent: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    bytes_received: int = 0

    def sent(self, data: bytes) -> bytes:
        """`data`, counted."""
        self.messages_sent += 1
        self.bytes_sent += len(data)
        return data

    def received(self, data: bytes) -> None:
        self.messages_received += 1
        self.bytes_received += len(data)
