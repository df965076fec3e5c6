"""The leader's side of snapshot transfers: a few at a time, slowly enough that nobody waits."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from consensus.messages import Message
from p2p.clock import Clock
from p2p.storage.log_store import LogStore
from p2p.storage.snapshot_transfer import Chunk, Receipt, Transfer

TRANSFERS_MAX = 4  # at a time; more peers wait for their turn
# One chunk per so long, over all transfers: reading, packing and encrypting chunks must not take
# the processor (often the same one as the receiver's) from commits.
PACE_S = 0.004

Send = Callable[[str, Mapping[str, Any]], bool]


class SnapshotSender:
    """Sends the store's newest snapshot to whom the core wants to have it.

    `report(peer, ok)` tells the core how it went: of a success too, because the receiver's own
    acknowledgement may be lost. `damaged()`: a receiver found our file to be unsound.
    """

    def __init__(
        self,
        store: LogStore,
        clock: Clock,
        call_later: Callable[[float, Callable[[], None]], object],
        send: Send,
        report: Callable[[str, bool], None],
        damaged: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._call_later = call_later
        self._send = send
        self._report = report
        self._damaged = damaged
        self._waiting: dict[str, Message] = {}
        self._running: dict[str, Transfer] = {}  # in the order of their turns
        self._turn_comes = False
        self._sent_s = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether the newest snapshot may be replaced without starting a transfer anew."""
        return not self._running

    @property
    def indexes(self) -> list[int]:
        """Of the snapshots that are being sent."""
        return [transfer.meta.index for transfer in self._running.values()]

    def offer(self, message: Message) -> None:
        """The core wants message.to to have a snapshot; an older offer for it is void."""
        self._running.pop(message.to, None)
        self._waiting[message.to] = message
        self._begin_next()

    def on_receipt(self, peer: str, receipt: Receipt) -> None:
        transfer = self._running.get(peer)
        if transfer is None or transfer.meta.index != receipt.index:
            return
        if receipt.done or receipt.damaged:
            self._end(peer, ok=receipt.done)
            if receipt.damaged:
                self._damaged()
            return
        transfer.on_receipt(receipt, self._clock.monotonic_s())
        self._call_turn()

    def on_link_lost(self, peer: str) -> None:
        self._end(peer, ok=False)

    def on_tick(self, leads_term: int | None) -> None:
        """`leads_term`: the term that this peer leads, None if it does not lead."""
        now_s = self._clock.monotonic_s()
        for peer, message in {
            **self._waiting,
            **{peer: transfer.message for peer, transfer in self._running.items()},
        }.items():
            if message.term != leads_term:  # the core forgot that it asked for it
                self._waiting.pop(peer, None)
                self._running.pop(peer, None)
        for peer, transfer in list(self._running.items()):
            if not transfer.is_alive_at(now_s):
                self._end(peer, ok=False)
        self._begin_next()

    def _end(self, peer: str, ok: bool) -> None:
        waited = self._waiting.pop(peer, None)
        ran = self._running.pop(peer, None)
        if waited is not None or ran is not None:
            self._report(peer, ok)
        self._begin_next()

    def _begin_next(self) -> None:
        while self._waiting and len(self._running) < TRANSFERS_MAX:
            peer = next(iter(self._waiting))
            self._running[peer] = self._fresh(self._waiting.pop(peer))
        if self._running:
            self._call_turn()

    def _fresh(self, message: Message) -> Transfer:
        """Of the newest snapshot, which may be newer than what the core asked for."""
        newest = replace(message, snapshot=self._store.snapshot_meta)
        return Transfer(newest, self._store.snapshot_bytes, self._clock.monotonic_s())

    def _call_turn(self) -> None:
        if not self._turn_comes:
            self._turn_comes = True
            wait_s = self._sent_s + PACE_S - self._clock.monotonic_s()
            self._call_later(max(0.0, wait_s), self._turn)

    def _turn(self) -> None:
        """Send one chunk: of the transfer that sent longest ago and may send."""
        self._turn_comes = False
        for peer, transfer in list(self._running.items()):
            if transfer.meta != self._store.snapshot_meta:
                transfer = self._running[peer] = self._fresh(transfer.message)
            place = transfer.next_send()
            if place is not None:
                self._running[peer] = self._running.pop(peer)  # to the end of the queue
                self._send_chunk(peer, transfer, *place)
                self._call_turn()
                return

    def _send_chunk(self, peer: str, transfer: Transfer, offset: int, count: int) -> None:
        data = self._store.read_snapshot(offset, count) if count else b""
        self._sent_s = self._clock.monotonic_s()
        transfer.sent(offset, count, self._sent_s)
        chunk = Chunk(transfer.message, transfer.total, offset, data)
        if not self._send(peer, chunk.to_wire()):
            self._end(peer, ok=False)
