"""A rank's mail: its sockets, and the thread that serves them. It also watches the others.

One PULL socket takes everything; one PUSH socket to every other rank sends, and its monitor tells
when that rank's process ends. Any thread may call the methods; `done` and `on_broken` are called
on the mailbox's own thread. A collective that runs elsewhere is watched from here: `begin` and
`finish` bracket it, and when its time is over the others are asked how far they are.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import zmq

from collectives.plane import Endpoints
from p2p.distributed.correspondence import Correspondence, Send
from p2p.distributed.errors import GroupError, TimedOut
from p2p.distributed.letters import Kind, Letter, unpack
from p2p.distributed.matching import Done, Receive
from p2p.distributed.post import PostSockets
from p2p.distributed.presence import Progress
from p2p.distributed.watch import TICK_SECONDS, Break, Watch

LEAVE_SECONDS_MAX = 5.0


class Mailbox:
    def __init__(self, sockets: PostSockets, group: bytes, rank: int, size: int) -> None:
        self._watch = Watch(rank, size)
        self._group, self._rank, self._size = group, rank, size
        self._sockets = sockets
        self._mail = Correspondence(group, rank)
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._deaf = False  # sleeps until it is rung, whatever begins
        self._expiries: dict[Send | Receive, tuple[float, str]] = {}
        self._seen = 0  # collectives begun, when it was looked last
        self._left = threading.Event()
        self._closing = False
        self.broken = ""
        self._broke = threading.Event()
        self.on_broken: Callable[[str], None] = lambda why: None
        self._thread = threading.Thread(target=self._run, name="p2p-mail", daemon=True)

    def start(self, members: Sequence[Endpoints]) -> None:
        for rank in self._watch.presence.others:
            self._sockets.connect(rank, members[rank])
        self._thread.start()

    # For any thread.

    def send(self, to: int, tag: int, data: memoryview, done: Done, timeout: float) -> None:
        """Send bytes to a rank (this one included); they are read until `done` is called."""

        def begin() -> None:
            if self._refused(to, done):
                return
            sending = self._mail.send(to, tag, data, done)
            self._expire(sending, timeout, f"send to rank {to}")

        self._command(begin)

    def receive(
        self, source: int | None, tag: int, target: memoryview, done: Done, timeout: float
    ) -> None:
        """Wait for a message of exactly target's length; from any rank with source None."""

        def begin() -> None:
            if self._refused(None, done):
                return
            receive = Receive(source, tag, target, done)
            self._mail.receive(receive)
            if source in self._watch.presence.left:  # all it has sent is here
                self._mail.cancel(receive, GroupError(f"rank {source} left the group"))
            who = "any rank" if source is None else f"rank {source}"
            self._expire(receive, timeout, f"receive from {who}")

        self._command(begin)

    def begin(self, number: int, name: str, timeout: float) -> None:
        """A collective starts on the thread that calls. Raises GroupError when it cannot end."""
        if self.broken:
            raise GroupError(self.broken)
        self._watch.begin(number, name, timeout, time.monotonic())
        if self._deaf:
            self._ring()

    def finish(self, number: int) -> None:
        if self._watch.finish(number):
            self._ring()

    def break_group(self, reason: str, *, tell: bool = True) -> None:
        """End everything for everybody, because this rank cannot go on."""
        self._command(lambda: self._break(reason, tell=tell))

    def why_lost(self, seconds: float) -> str:
        """Why the group broke: a rank that ends its links has mostly just told the reason."""
        self._broke.wait(seconds)
        return self.broken

    def leave(self) -> None:
        """Tell the others, and wait until they have got all they need from this rank."""
        if not self.broken:
            self._command(self._say_leave)
            self._left.wait(LEAVE_SECONDS_MAX)

    @property
    def idle(self) -> bool:
        """No collective runs and no message is awaited."""
        return (self._watch.running is None or bool(self.broken)) and not self._expiries

    def close(self) -> None:
        """Stop the thread, close the sockets; letters on their way have a moment to go out."""
        if self._closing:
            return
        self._closing = True
        self._ring()
        if self._thread.ident is not None:
            self._thread.join()
        else:
            self._sockets.close()
        os.close(self._wake)

    # The mailbox's own thread.

    def _run(self) -> None:
        try:
            while not self._closing:
                self._sleep()
                while self._commands:
                    self._commands.popleft()()
                self._take_letters()
                self._look()
                self._post()
        except Exception as error:
            self._break(f"rank {self._rank}'s mail failed: {error}", tell=True)
            raise
        finally:
            with contextlib.suppress(zmq.ZMQError):
                self._post()
            self._mail.end(GroupError("the group is closed"))
            self._sockets.close()

    def _command(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        if self._closing:
            raise GroupError("the group is closed")
        self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.eventfd_write(self._wake, 1)

    def _sleep(self) -> None:
        """Until there is something to do; ticks while collectives run, so none has to ring."""
        self._deaf = True  # first this, then a look whether one has begun: `begin` does the reverse
        now = time.monotonic()
        ends = [at for at, _ in self._expiries.values()]
        ends += self._watch.deadlines(now, broken=bool(self.broken))
        runs = self._watch.running is not None and not self.broken
        if runs or self._watch.begun != self._seen:
            self._deaf = False
            ends.append(now + TICK_SECONDS)
            self._seen = self._watch.begun
        wait = max(0.0, min(ends) - time.monotonic()) if ends else None
        if self._commands or self._closing:
            wait = 0.0
        full = [rank for rank, queue in self._mail.outbox.items() if queue]
        self._sockets.wait(self._wake, full, wait)
        self._deaf = False
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def _take_letters(self) -> None:
        for data, payload in self._sockets.take():
            letter = unpack(data, self._group, self._size)
            if letter is None:
                continue
            if letter.kind <= Kind.WITHDRAWN:
                self._mail.on_letter(letter, payload)
            else:
                self._on_note(letter, bytes(payload[:1000]).decode(errors="replace"))

    def _on_note(self, letter: Letter, text: str) -> None:
        sender = letter.sender
        if letter.kind is Kind.ASK:
            name, done = self._watch.last_name.encode(), self._watch.ended
            self._mail.write(sender, Kind.PROGRESS, name, number=self._watch.begun, extent=done)
        elif letter.kind is Kind.PROGRESS:
            self._watch.presence.told[sender] = Progress(letter.number, letter.extent, text)
        elif letter.kind is Kind.LEAVE:
            self._watch.leaves(sender, letter.extent)
            self._mail.lose(sender, GroupError(f"rank {sender} left the group"))
        elif letter.kind is Kind.MAY_LEAVE:
            self._watch.may_leave(sender)
        elif letter.kind is Kind.BROKEN:
            self._break(text, tell=False)

    def _look(self) -> None:
        now = time.monotonic()
        for operation, (at, sentence) in list(self._expiries.items()):
            if at <= now:
                self._mail.cancel(operation, TimedOut(sentence))
            if operation.over:
                del self._expiries[operation]
        self._watch.suspect(self._sockets.disconnected(), now)
        for act in self._watch.look(now, broken=bool(self.broken)):
            if isinstance(act, Break):
                self._break(act.reason, tell=act.tell)
            else:
                self._mail.write(act.to, act.kind)
        if self._watch.free:
            self._left.set()

    def _break(self, reason: str, *, tell: bool) -> None:
        if self.broken:
            return
        self.broken = reason
        self._broke.set()
        self._mail.end(GroupError(reason))
        if tell:
            for rank in self._watch.presence.still_here():
                self._mail.write(rank, Kind.BROKEN, f"{reason} (says rank {self._rank})".encode())
        self._left.set()
        self.on_broken(reason)

    def _say_leave(self) -> None:
        self._watch.says_leave = True
        for rank in self._watch.presence.still_here():
            self._mail.write(rank, Kind.LEAVE, extent=self._watch.ended)

    def _refused(self, rank: int | None, done: Done) -> bool:
        why = self.broken
        if not why and rank in self._watch.presence.left:
            why = f"rank {rank} left the group"
        if why:
            done(GroupError(why), -1)
        return bool(why)

    def _expire(self, operation: Send | Receive, timeout: float, what: str) -> None:
        if not operation.over:
            sentence = f"{what} did not end within its timeout of {timeout:g} s"
            self._expiries[operation] = (time.monotonic() + timeout, sentence)

    def _post(self) -> None:
        """Hand letters to the sockets as far as they have room; to ourselves, at once."""
        progress = True
        while progress:
            progress = False
            for rank in list(self._mail.outbox):
                while queue := self._mail.outbox[rank]:
                    out = queue[0]
                    if rank == self._rank:
                        queue.popleft()
                        self._mail.on_letter(out.letter, out.payload)
                    elif self._sockets.send(rank, out.letter.pack(), out.payload):
                        queue.popleft()
                    else:
                        break
                    progress = True
                    if out.gone is not None:
                        out.gone()
