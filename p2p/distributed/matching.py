"""Which message goes to which receive: by sender and tag, in the order of both. Pure.

A message is announced by an `Offer` as soon as its first frame is here, whether or not somebody
waits for it; a `Receive` waits for a message of one sender, or of any, with one tag. The oldest
receive that fits takes the oldest offer that fits, as MPI orders them (MPI 4.1, section 3.5).
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

Done = Callable[[Exception | None, int], None]  # the error or None, and the sender's rank


@dataclass(eq=False, slots=True)
class Receive:
    """Memory that waits for a message of exactly its length (bytes)."""

    source: int | None  # None: any
    tag: int
    target: memoryview
    done: Done
    got: int = 0  # bytes that have arrived
    over: bool = False  # `done` has been called

    def fits(self, offer: "Offer") -> bool:
        return self.source is None or self.source == offer.sender


@dataclass(eq=False, slots=True)
class Offer:
    """A message that a rank has for us: here already, or waiting to be asked for by number."""

    sender: int
    tag: int
    length: int
    number: int
    payload: bytes | None  # None: it is long and has stayed with its sender


class Matching:
    """Receives without a message, and messages without a receive; never a pair that fits."""

    def __init__(self) -> None:
        self._receives: defaultdict[int, list[Receive]] = defaultdict(list)
        self._offers: defaultdict[int, list[Offer]] = defaultdict(list)

    def post(self, receive: Receive) -> Offer | None:
        """The offer this receive takes; None when it waits from now on."""
        offers = self._offers[receive.tag]
        for at, offer in enumerate(offers):
            if receive.fits(offer):
                return offers.pop(at)
        self._receives[receive.tag].append(receive)
        return None

    def offer(self, offer: Offer) -> Receive | None:
        """The receive that takes this offer; None when it waits from now on."""
        receives = self._receives[offer.tag]
        for at, receive in enumerate(receives):
            if receive.fits(offer):
                return receives.pop(at)
        self._offers[offer.tag].append(offer)
        return None

    def withdraw(self, receive: Receive) -> bool:
        """Take back a receive that still waits; False when it does not."""
        waiting = self._receives[receive.tag]
        if receive not in waiting:
            return False
        waiting.remove(receive)
        return True

    def only_from(self, sender: int) -> list[Receive]:
        """The receives that wait for this sender and no other."""
        every = [receive for waiting in self._receives.values() for receive in waiting]
        return [receive for receive in every if receive.source == sender]

    def drain(self) -> list[Receive]:
        """Everything that waits, taken out."""
        every = [receive for waiting in self._receives.values() for receive in waiting]
        self._receives.clear()
        self._offers.clear()
        return every
