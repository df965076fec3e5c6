"""One process group at work: its data plane, its mail, and the thread that runs its collectives.

    caller ──► queue ──► worker ──► data plane      collectives, one after the other, in order
       └─────► mailbox (a thread of its own)        messages, whenever both ends are there

The first failure of a collective ends the group: every rank's operations fail with the reason.
"""

import atexit
import hashlib
import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch

from collectives.plane import Aborted, DataPlane, Group, LostPeer
from collectives.shm_memory import empty
from p2p.distributed.callers import Callers
from p2p.distributed.errors import GroupError
from p2p.distributed.mailbox import Mailbox
from p2p.distributed.post import PostSockets
from p2p.distributed.rendezvous import (
    Rendezvous,
    agree_on_keys,
    exchange_endpoints,
    own_address,
    private_folder,
    remove_folder,
)
from p2p.distributed.tensors import Array
from p2p.distributed.work import GroupWork

GENERATION = 1  # a group has one; there is no way back into it once it has ended
REASON_SECONDS = 0.5  # for the mail to learn why a rank is lost, which takes it its grace
LOOPBACK = "127.0.0.1"

Job = Callable[[Group], None]
_alive: "weakref.WeakSet[Engine]" = weakref.WeakSet()


class Engine:
    """Forms the group with the other ranks before it returns. Raises GroupError, OSError."""

    def __init__(self, store: Any, rank: int, size: int, timeout: timedelta, name: str) -> None:
        self.rank, self.size, self.timeout = rank, size, timeout
        self._numbers = 0
        self._queue: queue.SimpleQueue[tuple[str, GroupWork, Job, float] | None] = (
            queue.SimpleQueue()
        )
        self._callers = Callers()
        self._copy = np.empty(0, np.uint8)
        self._closed = False
        self._closing = threading.Lock()  # held by who closes, until all is closed
        self._gate = threading.Lock()  # nothing is submitted after the worker was told to end
        self._folder = private_folder()
        try:
            self._form(Rendezvous(store, rank, size, timeout), name)
        except BaseException:
            remove_folder(self._folder)
            raise
        self._worker = threading.Thread(target=self._work, name="p2p-collectives", daemon=True)
        self._worker.start()
        _alive.add(self)

    def _form(self, rendezvous: Rendezvous, name: str) -> None:
        keys, one_host = agree_on_keys(rendezvous, self.rank)
        host = LOOPBACK if one_host else own_address()
        digest = hashlib.blake2b(name.encode() + keys.server_public, digest_size=8)
        self._plane = DataPlane(host, str(self._folder), keys)
        try:
            sockets = PostSockets(self._folder, keys, None if one_host else host)
            self.mail = Mailbox(sockets, digest.digest(), self.rank, self.size)
            self.mail.on_broken = lambda why: self._plane.abort(GENERATION + 1)
            try:
                planes, mails = exchange_endpoints(
                    rendezvous, self._plane.endpoints, sockets.endpoints
                )
                self.mail.start(mails)
                job = digest.hexdigest()
                self._group = self._plane.enter(job, GENERATION, self.rank, planes)
            except BaseException:
                self.mail.close()
                raise
        except BaseException:
            self._plane.close()
            raise

    def room(self, size: int) -> Array:
        """For a job of the worker, until the next one: so many bytes that the other ranks may read
        where they lie."""
        if self._copy.size < size:
            self._copy = empty(size, np.uint8)
        return self._copy[:size]

    def handle(self, name: str, outputs: Sequence[torch.Tensor]) -> GroupWork:
        return GroupWork(name, outputs, self._callers)

    def submit(
        self, name: str, outputs: Sequence[torch.Tensor], job: Job, timeout: timedelta
    ) -> GroupWork:
        """Run `job` after all that was submitted before. Its errors are told by the handle."""
        work = self.handle(name, outputs)
        with self._gate:
            if self._closed:
                raise GroupError(f"{name} was called on a group that is closed")
            self._queue.put((name, work, job, timeout.total_seconds()))
        return work

    def send(self, to: int, tag: int, data: memoryview, work: GroupWork) -> None:
        self.mail.send(to, tag, data, work.finish, self.timeout.total_seconds())

    def receive(
        self, source: int | None, tag: int, target: memoryview, done: Callable[..., None]
    ) -> None:
        self.mail.receive(source, tag, target, done, self.timeout.total_seconds())

    def shutdown(self) -> None:
        """Finish what was submitted, let the others have what they need, and close."""
        self._close(leave=True)

    def abort(self) -> None:
        """End everything that runs or waits, here and on the other ranks, and close."""
        self.mail.break_group(f"rank {self.rank} aborted the group")
        self._close(leave=False)

    def _close(self, *, leave: bool) -> None:
        with self._closing:
            with self._gate:
                if self._closed:
                    return
                self._closed = True
                self._queue.put(None)
            _alive.discard(self)
            self._worker.join()
            if leave:
                self.mail.leave()
            self.mail.close()
            self._copy = np.empty(0, np.uint8)
            self._plane.close()
            self._callers.close()
            remove_folder(self._folder)

    def at_exit(self) -> None:
        """The process ends: leave if nothing is under way, else the others should not wait."""
        if self.mail.idle:
            self.shutdown()
        else:
            self.abort()

    def _work(self) -> None:
        np.seterr(all="ignore")  # in this thread: sums may be infinite, as everywhere in torch
        while (item := self._queue.get()) is not None:
            name, work, job, timeout = item
            work.finish(self._run(name, job, timeout))
            del item, work, job  # they hold the caller's tensors

    def _run(self, name: str, job: Job, timeout: float) -> Exception | None:
        self._numbers += 1
        try:
            self.mail.begin(self._numbers, name, timeout)
            job(self._group)
        except GroupError as error:
            # If a collective cannot begin, none can; the others know why by themselves.
            self.mail.break_group(str(error), tell=False)
            return error
        except Exception as error:
            reason = self._reason(name, error)
            self.mail.break_group(reason)
            return GroupError(reason)
        self.mail.finish(self._numbers)
        return None

    def _reason(self, name: str, error: Exception) -> str:
        if isinstance(error, LostPeer):
            known = self.mail.why_lost(REASON_SECONDS)
        else:
            known = self.mail.broken if isinstance(error, Aborted) else ""
        return known or f"{name} failed: {error}"


@atexit.register
def _leave_all() -> None:
    for engine in list(_alive):
        engine.at_exit()
