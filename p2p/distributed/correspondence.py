"""Messages of any length between the ranks of a group: what to send when. Pure, no sockets.

Short messages are sent at once, and kept where they arrive until they are received. Long ones are
announced, and sent when the receiver has taken them: nothing is ever kept that nobody asked for,
and every part is copied once, to where it belongs.

    send, receive, on_letter, … ─► outbox[rank]: letters, payloads, what to call when one has gone
"""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from p2p.distributed.errors import GroupError
from p2p.distributed.letters import Kind, Letter
from p2p.distributed.matching import Done, Matching, Offer, Receive

SHORT_BYTES_MAX = 32 << 10
PART_BYTES = 1 << 20


@dataclass(eq=False, slots=True)
class Send:
    to: int
    number: int
    data: memoryview  # bytes; read until `done` is called
    done: Done
    over: bool = False


@dataclass(slots=True)
class Outgoing:
    letter: Letter
    payload: bytes | memoryview = b""
    gone: Callable[[], None] | None = None  # called when the payload is not needed any more


class Correspondence:
    """One rank's messages. Every send and receive ends by exactly one call of its `done`."""

    def __init__(self, group: bytes, rank: int) -> None:
        self.group, self.rank = group, rank
        self.outbox: defaultdict[int, deque[Outgoing]] = defaultdict(deque)  # by rank
        self._matching = Matching()
        self._sending: dict[int, Send] = {}  # announced or on the way, by number
        self._arriving: dict[tuple[int, int], Receive] = {}  # by sender and number
        self._numbers = 0

    def send(self, to: int, tag: int, data: memoryview, done: Done) -> Send:
        self._numbers += 1
        sending = Send(to, self._numbers, data, done)
        if len(data) <= SHORT_BYTES_MAX:
            self.write(to, Kind.WHOLE, bytes(data), tag=tag, extent=len(data))
            self._end(sending, None, to)
        else:
            self._sending[sending.number] = sending
            self.write(to, Kind.OFFER, tag=tag, number=sending.number, extent=len(data))
        return sending

    def write(
        self,
        to: int,
        kind: Kind,
        payload: bytes | memoryview = b"",
        *,
        tag: int = 0,
        number: int = 0,
        extent: int = 0,
        gone: Callable[[], None] | None = None,
    ) -> None:
        letter = Letter(self.group, kind, self.rank, tag, number, extent)
        self.outbox[to].append(Outgoing(letter, payload, gone))

    def receive(self, receive: Receive) -> None:
        offer = self._matching.post(receive)
        if offer is not None:
            self._deal(receive, offer)

    def on_letter(self, letter: Letter, payload: bytes | memoryview) -> None:
        """WHOLE to WITHDRAWN; whatever fits nothing we know of is dropped."""
        if letter.kind in (Kind.WHOLE, Kind.OFFER):
            here = bytes(payload) if letter.kind is Kind.WHOLE else None
            if here is not None and len(here) != letter.extent:
                return
            offer = Offer(letter.sender, letter.tag, letter.extent, letter.number, here)
            receive = self._matching.offer(offer)
            if receive is not None:
                self._deal(receive, offer)
        elif letter.kind is Kind.TAKE:
            self._on_take(letter)
        elif letter.kind is Kind.REFUSE:
            sending = self._sending.get(letter.number)
            if sending is not None and sending.to == letter.sender:
                del self._sending[letter.number]
                self._end(sending, GroupError(bytes(payload).decode(errors="replace")), sending.to)
        elif letter.kind is Kind.PART:
            self._on_part(letter, payload)
        elif letter.kind is Kind.WITHDRAWN:
            receive = self._arriving.get((letter.sender, letter.number))
            if receive is not None:
                self.cancel(receive, GroupError(f"rank {letter.sender} gave up sending this"))

    def cancel(self, operation: Send | Receive, error: Exception) -> None:
        """End it with this error unless it has ended; its memory is not touched any more."""
        if operation.over:
            return
        if isinstance(operation, Send):
            del self._sending[operation.number]
            # What has not gone out must not go out later: its memory may change from now on.
            mine, outbox = (Kind.PART, operation.number), self.outbox[operation.to]
            kept = [out for out in outbox if (out.letter.kind, out.letter.number) != mine]
            self.outbox[operation.to] = deque(kept)
            self.write(operation.to, Kind.WITHDRAWN, number=operation.number)
            self._end(operation, error, operation.to)
            return
        if not self._matching.withdraw(operation):
            for key, receive in list(self._arriving.items()):
                if receive is operation:
                    del self._arriving[key]
        self._end(operation, error, -1)

    def lose(self, rank: int, error: Exception) -> None:
        """This rank is no more: what waits for it alone ends. What came from it stays."""
        for sending in [send for send in self._sending.values() if send.to == rank]:
            self.cancel(sending, error)
        for receive in self._matching.only_from(rank):
            self.cancel(receive, error)
        for (sender, _), receive in list(self._arriving.items()):
            if sender == rank:
                self.cancel(receive, error)

    def end(self, error: Exception) -> None:
        """Everything that has not ended ends with this error."""
        for sending in list(self._sending.values()):
            self.cancel(sending, error)
        for receive in [*self._matching.drain(), *self._arriving.values()]:
            self._end(receive, error, -1)
        self._arriving.clear()
        self.outbox.clear()

    def _deal(self, receive: Receive, offer: Offer) -> None:
        if offer.length != len(receive.target):
            error = f"rank {offer.sender} sends {offer.length} bytes, {len(receive.target)} fit"
            if offer.payload is None:
                why = f"rank {self.rank} has room for {len(receive.target)} bytes, "
                why += f"not for {offer.length}"
                self.write(offer.sender, Kind.REFUSE, why.encode(), number=offer.number)
            self._end(receive, GroupError(error), offer.sender)
        elif offer.payload is not None:
            receive.target[:] = offer.payload
            self._end(receive, None, offer.sender)
        else:
            self._arriving[offer.sender, offer.number] = receive
            self.write(offer.sender, Kind.TAKE, number=offer.number)

    def _on_take(self, letter: Letter) -> None:
        sending = self._sending.get(letter.number)
        if sending is None or sending.to != letter.sender:
            self.write(letter.sender, Kind.WITHDRAWN, number=letter.number)
            return
        for at in range(0, len(sending.data), PART_BYTES):
            part = sending.data[at : at + PART_BYTES]
            last = at + PART_BYTES >= len(sending.data)
            gone = (lambda: self._gone(sending)) if last else None
            self.write(sending.to, Kind.PART, part, number=sending.number, extent=at, gone=gone)

    def _gone(self, sending: Send) -> None:
        self._sending.pop(sending.number, None)
        self._end(sending, None, sending.to)

    def _on_part(self, letter: Letter, payload: bytes | memoryview) -> None:
        key = (letter.sender, letter.number)
        receive = self._arriving.get(key)
        if receive is None:
            return
        if letter.extent != receive.got or receive.got + len(payload) > len(receive.target):
            error = GroupError(f"data from rank {letter.sender} was lost on the way")
            self.cancel(receive, error)
            return
        target = np.frombuffer(receive.target[receive.got : receive.got + len(payload)], np.uint8)
        np.copyto(target, np.frombuffer(payload, np.uint8))  # leaves the interpreter to others
        receive.got += len(payload)
        if receive.got == len(receive.target):
            del self._arriving[key]
            self._end(receive, None, letter.sender)

    @staticmethod
    def _end(operation: Send | Receive, error: Exception | None, rank: int) -> None:
        if not operation.over:
            operation.over = True
            operation.done(error, rank)
