"""The life of a replica, from its peer's Load to the end of the stream: in a fork of the spare.

One thread works: between two steps it hears what the peer wants; with nothing to do it waits for
that. Another one says what it is at. Its peer's end is its own.
"""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterable

from p2p.serving.checking import Malformed
from p2p.serving.desk import Desk
from p2p.serving.heart import Heart
from p2p.serving.messages import Done, Failed, Load, News, Order
from p2p.serving.models.engine import Unfit
from p2p.serving.models.loading import load
from p2p.serving.protocol import order
from p2p.serving.stepping import Stepping
from p2p.training.blame import sentence
from p2p.training.stream import Decoder, MalformedFrame, Message, encode

NICENESS = 5  # the peer's heartbeats come first
READ_BYTES = 1 << 18


def main(stream: socket.socket) -> int:
    """Serve one peer until it closes its end. Returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the peer, which tells us
    os.nice(NICENESS)
    line = Line(stream)
    try:
        return live(line)
    except ConnectionError:  # it closed its end with news of ours unread: an end like any other
        return 0
    except (MalformedFrame, OSError) as error:
        print(f"replica: its peer is gone or mad: {error}", file=sys.stderr)
        return 1
    except BaseException as error:
        with contextlib.suppress(OSError):  # the disk with the log may be what failed
            traceback.print_exception(error)
            sys.stderr.flush()
        told = str(error) if isinstance(error, Unfit) else sentence(error)
        line.say([Failed(told)])
        return 1


def live(line: "Line") -> int:
    orders: list[Order] = []
    while not orders:
        heard = line.hear(wait=True)
        if heard is None:
            return 0
        orders = heard
    first, *orders = orders
    if not isinstance(first, Load):
        raise Malformed("the first order is no load")
    heart = Heart(line.say)
    heart.start()
    with heart.at("loading"):
        engine, ready = load(first)
    stepping = Stepping(
        engine, Desk(engine.served, engine.slots, first.waiting), heart, _file_of(engine.served)
    )
    line.say([ready])
    while True:
        for each in orders:
            line.say(stepping.take(each))
        news = stepping.step()
        if news is not None:
            line.say(news)
        heard = line.hear(wait=news is None)
        if heard is None:
            return 0
        orders = heard


def _file_of(served: object) -> str | None:
    """Where the code is that computes."""
    return getattr(sys.modules.get(type(served).__module__), "__file__", None)


class Line:
    """The replica's end of the stream. A peer that reads slowly slows its replica down."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream, self._decoder = stream, Decoder()
        self._poll = select.poll()
        self._poll.register(stream, select.POLLIN)
        self._saying = threading.Lock()  # the heart says something, too

    def hear(self, wait: bool) -> list[Order] | None:
        """What has come; None at the end. Raises MalformedFrame."""
        if not self._poll.poll(None if wait else 0):
            return []
        data = self._stream.recv(READ_BYTES)
        if not data:
            return None
        return [found for wire in self._decoder.feed(data) if (found := self._read(wire))]

    def say(self, news: Iterable[News]) -> None:
        frames = b"".join(encode(each.to_wire()) for each in news)
        if frames:
            with self._saying:
                self._stream.sendall(frames)

    def _read(self, wire: Message) -> Order | None:
        """None for what is no order; whoever waits for an answer gets the reason."""
        try:
            return order(wire)
        except Malformed as error:
            request = wire.get("request")
            if isinstance(request, str) and wire["kind"] == "generate":
                self.say([Done(request, "error", 0, 0, error=str(error))])
            else:
                print(f"replica: not understood: {error}", file=sys.stderr, flush=True)
            return None
