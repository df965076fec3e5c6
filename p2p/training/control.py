"""What the peer says to its trainer, heard by a thread of its own so that it is never late.

That thread ends a reduction in flight the moment a newer generation, a hold or a stop comes in, and
the whole process when the peer is gone. A generation that comes in order (nobody of the one before
is missing in it) ends nothing: the trainers agree on the round after which they leave for it.
"""

import contextlib
import os
import select
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal

from collectives.plane import Aborted, DataPlane, OutOfStep
from p2p.training.activity import PULSE_EVERY_S, Activity
from p2p.training.follower import Follow
from p2p.training.going_back import Offer
from p2p.training.method import Method
from p2p.training.stream import Decoder, MalformedFrame, Message, encode

NEVER = 1 << 62
READ_BYTES = 1 << 18
NEWS = frozenset({"generation", "follow", "checkpoint", "stop"})  # something new to do


@dataclass(frozen=True)
class Order:
    """A generation as the peer ordered it. `arrived` = monotonic seconds."""

    number: int
    members: list[Any]
    shards: list[tuple[int, int]]
    mark_every_s: float
    arrived: float
    after_hold: bool
    method: Method | None  # None = as the job was submitted
    offers: tuple[Offer, ...] = ()  # what of the job's checkpoints lies on this peer's disk


class Control:
    """The trainer's end of the stream. `send` may be called from any thread."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self.activity = Activity()
        self._plane: DataPlane | None = None
        self._begin: Message | None = None
        self._order: Order | None = None
        self._follow: Follow | None = None
        self.news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # see `wait`
        self._newest = self._oldest = -1  # the generations that may be in use
        self._lease_until = 0.0
        self._held = self._stopped = self._asked = self._was_held = False
        self.asks = 0  # the number of the last wish for a checkpoint that was heard
        threading.Thread(target=self._listen, name="control", daemon=True).start()

    def send(self, message: Message) -> None:
        """Raises OSError when the peer is gone; the listener ends the process then anyway."""
        data = encode(message)
        with self._sending:
            self._stream.sendall(data)

    def begin(self) -> Message:
        """The first message."""
        with self._changed:
            self._changed.wait_for(lambda: self._begin is not None)
            assert self._begin is not None
            return self._begin

    def attach(self, plane: DataPlane) -> None:
        """From now on orders abort what this data plane does."""
        with self._changed:
            self._plane = plane
            plane.abort(self._floor())

    def wait(self, after: int) -> Order | Follow | Literal["checkpoint"] | None:
        """The next thing to do: a generation newer than `after`, others to follow, a checkpoint, or
        None = stop. `news` is readable as soon as there may be another."""
        self.activity.begin("wait", after)
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stopped
                    or self._asked
                    or self._follow is not None
                    or self._runnable(after) is not None
                )
            )
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.news)
            if self._stopped:
                return None
            if self._asked:
                self._asked = False
                return "checkpoint"
            order = self._runnable(after)
            follow, self._follow = self._follow, None
            return order if order is not None else follow

    def check(self, generation: int) -> None:
        """Raises Aborted when this generation is over. Cheap: called between shards."""
        if generation < self._floor():
            raise Aborted(f"generation {generation} is over")

    def check_is_over(self, generation: int) -> None:
        """Raises OutOfStep unless there is a newer order, or a hold or a stop."""
        if not self._is_over(generation):
            raise OutOfStep(f"training data of generation {generation} was lost on the way")

    def wait_is_over(self, generation: int, seconds: float) -> None:
        """Waits for a newer order, a hold or a stop; raises OutOfStep if none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over(generation), seconds)
        self.check_is_over(generation)

    def may_step(self, generation: int) -> None:
        """Returns while the lease holds, else waits for a new one. Raises Aborted."""
        self.check(generation)
        if time.monotonic() < self._lease_until:
            return
        self.activity.begin("wait", generation)
        with self._changed:
            self._changed.wait_for(
                lambda: generation < self._floor() or time.monotonic() < self._lease_until
            )
        self.check(generation)

    @property
    def checkpoint_asked(self) -> bool:
        """Somebody wants a checkpoint; until one was begun."""
        return self._asked

    def checkpoint_begun(self) -> None:
        with self._changed:
            self._asked = False

    def _runnable(self, after: int) -> Order | None:
        order = self._order
        return order if order is not None and order.number > after and not self._held else None

    def goes_on_after(self, generation: int) -> bool:
        """Whether a newer one has come in order: this one ends with a round."""
        return generation < self._newest and generation >= self._floor()

    def _is_over(self, generation: int) -> bool:
        return generation < max(self._newest, self._floor())

    def _floor(self) -> int:
        if self._stopped:
            return NEVER
        return self._newest + 1 if self._held else self._oldest

    def _listen(self) -> None:
        decoder = Decoder()
        try:
            beat_s = time.monotonic()
            while True:
                rest_s = max(0.0, beat_s + PULSE_EVERY_S - time.monotonic())
                if select.select([self._stream], [], [], rest_s)[0]:
                    data = self._stream.recv(READ_BYTES)
                    if not data:
                        break
                    for message in decoder.feed(data):
                        self._take(message)
                elif self._begin is not None:
                    beat_s = time.monotonic()
                    self.send(self.activity.pulse())
        except (OSError, MalformedFrame, KeyError, TypeError, ValueError) as error:
            print(f"trainer: the peer's stream broke: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)  # without its peer a trainer must not go on, whatever it is doing

    def _take(self, message: Message) -> None:
        with self._changed:
            match message["kind"]:
                case "begin":
                    self._begin = message
                case "generation":
                    self._take_generation(message)
                case "follow":
                    self._follow = Follow(
                        int(message["number"]),
                        [dict(member["endpoints"]) for member in message["members"]],
                        _method(message),
                    )
                case "hold":
                    self._held = True
                    # A wanted pause is no stall; waiting for peers that were lost is one.
                    self._was_held = self._was_held or bool(message.get("wanted", True))
                case "lease":
                    self._lease_until = float(message["until"])
                case "checkpoint":
                    self._asked, self.asks = True, int(message["number"])
                case "stop":
                    self._stopped = True
                    if self._plane is None:
                        os._exit(0)  # still setting up, perhaps in an import that hangs
            if self._plane is not None:
                self._plane.abort(self._floor())
            if message["kind"] in NEWS:
                os.eventfd_write(self.news, 1)
            self._changed.notify_all()

    def _take_generation(self, message: Message) -> None:
        number = int(message["number"])
        if number <= self._newest:
            return  # an older one, overtaken
        # After a hold nobody is in a generation any more.
        if self._held or not message.get("in_order"):
            self._oldest = number
        self._newest, self._held = number, False
        self._order = Order(
            number,
            list(message["members"]),
            [(int(lo), int(hi)) for lo, hi in message["shards"]],
            float(message["mark_every_s"]),
            time.monotonic(),
            self._was_held,
            _method(message),
            tuple(Offer.parse(told) for told in message.get("checkpoints", ())),
        )
        self._was_held = False


def _method(message: Message) -> Method | None:
    return Method.from_order(message["method"]) if message.get("method") else None
