"""The thread that gives files to other peers and fetches theirs: sockets and disk of its own.

So a heartbeat never waits for a file: the loop's thread only hands over what is wanted and is
called back with what came of it. The ZeroMQ context is its own too, for the encryption of what is
sent is done there. Sockets authenticate exactly as the control sockets do.

Where another peer's files are is asked at its control socket, whose address the log has: the
request `content` is answered with the port.
"""

import asyncio
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import zmq

from p2p.content.contract import Fetched, OnFetched, Source
from p2p.content.folder import ContentFolder, Part
from p2p.content.messages import (
    HEAD_BYTES_MAX,
    Ask,
    MalformedSlice,
    Slice,
    ask_from_frame,
    ask_to_frame,
    is_sha256,
    slice_from_frames,
    slice_to_frames,
)
from p2p.content.remote import Remote
from p2p.content.transfer import Transfer
from p2p.datasets.manifest import from_bytes
from p2p.errors import P2PError
from p2p.wire.keys import ClusterKey
from p2p.wire.sockets import router

QUEUED_SLICES_MAX = 64  # per peer that asks and does not read
FETCHES_MAX = 4  # at once; the others wait, so that nothing asked for waits for long
ROUND_MESSAGES_MAX = 32  # from one socket before others get their turn
POLL_MS = 500
BUSY_POLL_MS = 20
HANG_UP_AFTER_S = 10.0
CLOSE_WITHIN_S = 2.0


@dataclass
class _Fetch:
    sha256: str
    size: int
    transfer: Transfer
    part: Part
    sources: dict[str, Source]  # by the name that sentences use
    then: OnFetched
    restarts: int = 0


class ContentThread:
    """The real Content. Call start() from the running event loop; close() ends the thread.

    Raises P2PError when the folder or the socket cannot be made.
    """

    def __init__(self, folder: ContentFolder, key: ClusterKey, bind_host: str, me: str) -> None:
        self._folder = folder
        self._key = key
        self._me = me
        self._context = zmq.Context()
        self._router, self.port = router(
            self._context, key, bind_host, HEAD_BYTES_MAX, QUEUED_SLICES_MAX
        )
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._waiting: dict[str, tuple[int, Sequence[Source], OnFetched]] = {}
        self._fetches: dict[str, _Fetch] = {}
        self._remotes: dict[str, Remote] = {}  # by address
        self._known: dict[str, tuple[int, int]] = {}
        self._poller = zmq.Poller()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="content", daemon=True)
        self._stopped = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """Ends within a moment; what was fetched so far stays for the next start."""
        if self._thread.is_alive():
            self._order(None)
            self._thread.join(CLOSE_WITHIN_S)  # it ends with the process at the latest
        else:
            self._end()

    # -- called by the loop ---------------------------------------------------------------------

    def find(self, sha256: str) -> Path | None:
        return self._folder.find(sha256)

    def fetch(self, sha256: str, size: int, sources: Sequence[Source], then: OnFetched) -> None:
        self._order(lambda: self._note(sha256, size, sources, then))

    def cancel(self, sha256: str) -> None:
        self._order(lambda: self._give_up(sha256))

    def offer(self, sha256: str, path: Path) -> None:
        self._folder.offer(sha256, path)

    def offer_tree(self, manifest: str, root: str) -> None:
        self._order(lambda: self._offer_tree(manifest, Path(root)))

    def withdraw_tree(self, manifest: str) -> None:
        self._order(lambda: self._offer_tree(manifest, None))

    def put(self, data: bytes, then: OnFetched) -> None:
        self._order(lambda: self._put(data, then))

    def drop(self, sha256: str) -> None:
        self._folder.withdraw(sha256)  # at once: it must not be found any more
        self._order(lambda: self._folder.remove(sha256))

    def progress(self) -> Mapping[str, tuple[int, int]]:
        return dict(self._known)

    def _order(self, order: Callable[[], None] | None) -> None:
        self._orders.put(order)
        with contextlib.suppress(BlockingIOError):  # full: it is awake anyway
            os.write(self._wake_write, b"!")

    # -- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        self._folder.tidy()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._wake_read, zmq.POLLIN)
        try:
            while not self._stopped:
                ready = dict(self._poller.poll(self._patience_ms()))
                if self._wake_read in ready:
                    self._take_orders()
                if self._router in ready:
                    self._serve()
                self._begin_some()
                self._read()
                for fetch in list(self._fetches.values()):
                    self._go_on(fetch)
                self._send()
        finally:
            self._end()

    def _patience_ms(self) -> int:
        """How long to wait for messages; not at all while there is a part to be hashed."""
        if not self._fetches:
            return POLL_MS
        is_hashing = any(each.part.hashed < each.part.have for each in self._fetches.values())
        return 0 if is_hashing else BUSY_POLL_MS

    def _take_orders(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4_096)
        while True:
            try:
                order = self._orders.get_nowait()
            except queue.Empty:
                return
            if order is None:
                self._stopped = True
                return
            order()

    def _end(self) -> None:
        for fetch in self._fetches.values():
            fetch.part.close()
        for remote in self._remotes.values():
            remote.close()
        self._router.close(0)
        self._context.term()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _call_back(self, then: OnFetched, fetched: Fetched) -> None:
        assert self._loop is not None, "start() first"
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(then, fetched)

    # -- giving ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        for _ in range(ROUND_MESSAGES_MAX):
            try:
                frames = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(frames) != 2:
                continue
            try:
                ask = ask_from_frame(self._key.cluster_id, frames[1])
            except MalformedSlice:
                continue
            data = self._folder.read(ask.sha256, ask.size, ask.offset, ask.count)
            if isinstance(data, str):
                given = Slice(ask.sha256, ask.offset, b"", data)
            else:
                given = Slice(ask.sha256, ask.offset, data)
            answer = [frames[0], *slice_to_frames(self._key.cluster_id, given)]
            with contextlib.suppress(zmq.ZMQError):  # whoever asked is gone or does not read
                self._router.send_multipart(answer, zmq.NOBLOCK)

    def _offer_tree(self, manifest: str, root: Path | None) -> None:
        path = self._folder.find(manifest)
        if path is None:
            return
        with contextlib.suppress(P2PError, OSError):  # then it is not offered
            told = from_bytes(path.read_bytes())
            for file in told.files:
                if root is None:
                    self._folder.withdraw(file.sha256)
                else:
                    place = root / file.name if told.kind == "folder" else root
                    self._folder.offer(file.sha256, place)

    def _put(self, data: bytes, then: OnFetched) -> None:
        try:
            sha256 = self._folder.put(data)
        except P2PError as error:
            self._call_back(then, Fetched("", None, str(error)))
        else:
            self._call_back(then, Fetched(sha256, self._folder.find(sha256)))

    # -- fetching -------------------------------------------------------------------------------

    def _note(self, sha256: str, size: int, sources: Sequence[Source], then: OnFetched) -> None:
        if sha256 not in self._fetches:
            self._waiting.setdefault(sha256, (size, sources, then))

    def _begin_some(self) -> None:
        while self._waiting and len(self._fetches) < FETCHES_MAX:
            sha256 = next(iter(self._waiting))
            self._begin(sha256, *self._waiting.pop(sha256))

    def _begin(self, sha256: str, size: int, sources: Sequence[Source], then: OnFetched) -> None:
        there = self._folder.find(sha256)
        if there is not None:
            self._call_back(then, Fetched(sha256, there))
            return
        if not is_sha256(sha256) or size < 0:
            self._call_back(then, Fetched(sha256, None, f"{sha256!r} is no hash of a file"))
            return
        try:
            part = self._folder.begin(sha256, size)
        except P2PError as error:
            self._call_back(then, Fetched(sha256, None, str(error)))
            return
        named = {source.name: source for source in sources}
        transfer = Transfer(size, list(named), part.have)
        self._fetches[sha256] = _Fetch(sha256, size, transfer, part, named, then)

    def _give_up(self, sha256: str) -> None:
        self._waiting.pop(sha256, None)
        self._known.pop(sha256, None)
        fetch = self._fetches.pop(sha256, None)
        if fetch is not None:
            fetch.part.close()

    def _read(self) -> None:
        for address, remote in self._remotes.items():
            for frames in remote.receive():
                try:
                    given = slice_from_frames(self._key.cluster_id, *frames)
                except MalformedSlice:
                    continue
                fetch = self._fetches.get(given.sha256)
                if fetch is not None:
                    try:
                        self._take(fetch, address, given)
                    except P2PError as error:
                        self._finish(fetch, Fetched(fetch.sha256, None, str(error)))

    def _take(self, fetch: _Fetch, address: str, given: Slice) -> None:
        for name, source in fetch.sources.items():
            if source.address != address:
                continue
            if given.refusal:
                fetch.transfer.on_refusal(name, given.offset, given.refusal)
            for data in fetch.transfer.on_slice(name, given.offset, given.data):
                fetch.part.append(data)
        self._follow_restart(fetch)
        self._known[fetch.sha256] = (fetch.part.have, fetch.size)

    def _go_on(self, fetch: _Fetch) -> None:
        try:
            if not fetch.part.catch_up():
                return
            for name in fetch.transfer.on_time(time.monotonic()):
                self._hang_up(fetch.sources[name].address)  # it may have come back elsewhere
            self._follow_restart(fetch)
            if fetch.transfer.is_complete:
                self._check(fetch)
            if fetch.sha256 in self._fetches:
                self._ask(fetch)
        except P2PError as error:
            self._finish(fetch, Fetched(fetch.sha256, None, str(error)))

    def _check(self, fetch: _Fetch) -> None:
        is_sound = fetch.part.is_sound()
        fetch.transfer.on_checked(is_sound)
        if is_sound:
            self._finish(fetch, Fetched(fetch.sha256, fetch.part.finish()))
        else:
            self._follow_restart(fetch)

    def _follow_restart(self, fetch: _Fetch) -> None:
        if fetch.restarts != fetch.transfer.restarts:
            fetch.restarts = fetch.transfer.restarts
            fetch.part.restart()

    def _ask(self, fetch: _Fetch) -> None:
        if fetch.transfer.failure:
            short = f"{fetch.sha256[:12]}… ({fetch.size} bytes)"
            problem = f"nobody could give the file {short}: {fetch.transfer.failure}"
            wrong = frozenset(fetch.sources[name].peer for name in fetch.transfer.wrong)
            self._finish(fetch, Fetched(fetch.sha256, None, problem, wrong))
            return
        for wanted in fetch.transfer.wanted(time.monotonic()):
            ask = Ask(fetch.sha256, fetch.size, wanted.offset, wanted.count)
            remote = self._remote(fetch.sources[wanted.source].address)
            remote.say(ask_to_frame(self._key.cluster_id, ask))

    def _remote(self, address: str) -> Remote:
        if address not in self._remotes:
            made = Remote(self._context, self._key, address, self._me, self._poller)
            self._remotes[address] = made
        return self._remotes[address]

    def _send(self) -> None:
        now_s = time.monotonic()
        for address, remote in list(self._remotes.items()):
            remote.send(now_s)
            if now_s - remote.used_s > HANG_UP_AFTER_S:
                self._hang_up(address)

    def _finish(self, fetch: _Fetch, fetched: Fetched) -> None:
        del self._fetches[fetch.sha256]
        self._known.pop(fetch.sha256, None)
        fetch.part.close()
        self._call_back(fetch.then, fetched)

    def _hang_up(self, address: str) -> None:
        remote = self._remotes.pop(address, None)
        if remote is not None:
            remote.close()
