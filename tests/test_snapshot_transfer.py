"""A snapshot travels: in order, once, within its window, resumed after every kind of trouble."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import msgpack
import pytest

from consensus.changes import ConfState, SnapshotMeta
from consensus.messages import Entry, EntryType, HardState, Message, MessageType
from consensus.wire import MalformedMessage
from p2p.clock import ManualClock
from p2p.replicated.state import State
from p2p.replicated.wire import to_chunks
from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.log_store import LogStore
from p2p.storage.snapshot_receiver import SnapshotReceiver
from p2p.storage.snapshot_sender import PACE_S, TRANSFERS_MAX, SnapshotSender
from p2p.storage.snapshot_transfer import CHUNK_BYTES, STALLED_S, WINDOW_BYTES, Chunk, Receipt

CONF = ConfState(("a", "b"), ("c",))
VALUES = 24  # of 64 KiB: twelve chunks and a bit


def meta(index: int = 7, term: int = 2) -> SnapshotMeta:
    return SnapshotMeta(index, term, CONF)


def snap(to: str, term: int = 3, of: SnapshotMeta | None = None) -> Message:
    return Message(MessageType.SNAP, to, "a", term, snapshot=of or meta())


def store_with(values: int = VALUES, of: SnapshotMeta | None = None) -> LogStore:
    store = LogStore(MemoryDisk())
    entries = [Entry(index, 2, EntryType.NORMAL, b"") for index in range(1, 21)]
    store.save(HardState(2, None, 20), entries, must_sync=True)
    take(store, values, of or meta())
    return store


def take(store: LogStore, values: int, of: SnapshotMeta) -> None:
    file = store.begin_snapshot(of)
    for chunk in to_chunks(state_of(values)):
        file.write(chunk)
    file.finish()


def state_of(values: int) -> State:
    """Of so many times 64 KiB."""
    state = State(cluster_id="c")
    for number in range(values):
        value = Random(number).randbytes(64 * 1024)
        state = replace(state, store=state.store.having(f"k{number}", value))
    return state


class Wire:
    """Sender "a" and any number of receivers; what is lost, doubled or late comes from one seed."""

    def __init__(self, store: LogStore, seed: int = 0, trouble: float = 0.0) -> None:
        self.clock = ManualClock()
        self.rng = Random(seed)
        self.trouble = trouble
        self.store = store
        self.leads_term = 3
        self.disks: dict[str, MemoryDisk] = {}
        self.stores: dict[str, LogStore] = {}
        self.receivers: dict[str, SnapshotReceiver] = {}
        self.commits: dict[str, int] = {}
        self.taken: list[Message] = []
        self.states: dict[str, State] = {}
        self.reports: list[tuple[str, bool]] = []
        self.damaged = 0
        self.sent: list[tuple[str, Chunk]] = []
        self.sender = SnapshotSender(
            store,
            self.clock,
            self.clock.call_later,
            self._send,
            lambda peer, ok: self.reports.append((peer, ok)),
            self._on_damaged,
        )

    def start(self, name: str) -> None:
        """The receiver's process starts, perhaps again with its old disk."""
        self.disks.setdefault(name, MemoryDisk())
        self.stores[name] = LogStore(self.disks[name])
        self.receivers[name] = SnapshotReceiver(self.stores[name], self._take(name))
        self.commits.setdefault(name, 0)

    def kill(self, name: str) -> None:
        del self.receivers[name]
        self.sender.on_link_lost(name)

    def run(self, seconds: float, is_over: Callable[[], object] = lambda: False) -> None:
        for _ in range(round(seconds / 0.01)):
            if is_over():
                return
            self.clock.advance(0.01)
            self.sender.on_tick(self.leads_term)

    def until_reported(self, count: int = 1) -> None:
        self.run(60.0, lambda: len(self.reports) >= count)
        assert len(self.reports) >= count, "no report of how it went"

    def data_bytes(self, name: str) -> int:
        return sum(len(chunk.data) for to, chunk in self.sent if to == name)

    def _take(self, name: str) -> Callable[[Message], None]:
        def take(message: Message) -> None:
            assert message.snapshot is not None
            self.taken.append(message)
            if message.snapshot.index > self.commits[name]:
                ready = self.receivers[name].ready
                assert ready is not None
                assert ready[0] == message.snapshot
                self.states[name] = ready[1]
                self.stores[name].install(message.snapshot)
                self.commits[name] = message.snapshot.index

        return take

    def _on_damaged(self) -> None:
        self.damaged += 1

    def _send(self, peer: str, body: Mapping[str, Any]) -> bool:
        if peer not in self.receivers:
            return False
        packed = msgpack.packb(body)
        self.sent.append((peer, Chunk.from_wire(msgpack.unpackb(packed))))
        self._carry(lambda: self._arrive(peer, packed))
        return True

    def _arrive(self, peer: str, packed: bytes) -> None:
        if peer not in self.receivers:
            return
        chunk = Chunk.from_wire(msgpack.unpackb(packed))
        receipt = self.receivers[peer].on_chunk(chunk, term=0, commit=self.commits[peer])
        if receipt is not None:
            back = msgpack.packb(receipt.to_wire())
            self._carry(
                lambda: self.sender.on_receipt(peer, Receipt.from_wire(msgpack.unpackb(back)))
            )

    def _carry(self, arrive: Callable[[], None]) -> None:
        if self.rng.random() < self.trouble:
            return  # lost
        for _ in range(2 if self.rng.random() < self.trouble else 1):
            late_s = self.rng.uniform(0.1, 3.0) if self.rng.random() < self.trouble else 0.001
            self.clock.call_later(late_s, arrive)


def test_every_byte_travels_once_and_the_core_gets_its_message() -> None:
    wire = Wire(store_with())
    wire.start("b")
    wire.sender.offer(snap("b"))
    wire.until_reported()
    assert wire.reports == [("b", True)]
    assert wire.taken == [snap("b")]
    assert wire.data_bytes("b") == wire.store.snapshot_bytes > 12 * CHUNK_BYTES
    received = wire.stores["b"]
    assert received.snapshot_meta == meta()
    assert list(received.snapshot_chunks()) == list(wire.store.snapshot_chunks())
    assert wire.states["b"] == state_of(VALUES), "read while it came"


@pytest.mark.parametrize("seed", range(12))
def test_loss_repetition_and_delay_only_cost_time(seed: int) -> None:
    wire = Wire(store_with(), seed, trouble=0.15)
    wire.start("b")
    for tries in range(1, 20):
        wire.sender.offer(snap("b"))
        wire.until_reported(tries)
        if wire.commits["b"]:
            break
    assert list(wire.stores["b"].snapshot_chunks()) == list(wire.store.snapshot_chunks())
    assert wire.data_bytes("b") < 4 * wire.store.snapshot_bytes, "no storm of repetitions"


def test_no_more_than_the_window_is_under_way() -> None:
    """Chunks that nobody acknowledges: what a heartbeat on the same link may queue behind."""
    wire = Wire(store_with())
    wire.start("b")
    under_way = most = 0
    receive = wire.receivers["b"].on_chunk

    def late(chunk: Chunk, term: int, commit: int) -> Receipt | None:
        nonlocal under_way, most
        sent = sum(len(told.data) for _, told in wire.sent)
        under_way = sent - chunk.offset
        most = max(most, under_way)
        return receive(chunk, term, commit)

    wire.receivers["b"].on_chunk = late  # type: ignore[method-assign]
    wire.sender.offer(snap("b"))
    wire.until_reported()
    assert most <= WINDOW_BYTES


def test_chunks_are_paced() -> None:
    wire = Wire(store_with())
    for name in "bcde":
        wire.start(name)
        wire.sender.offer(snap(name))
    wire.run(0.1)
    assert len(wire.sent) <= 0.1 / PACE_S + 1


def test_a_receiver_that_was_killed_goes_on_where_it_was() -> None:
    wire = Wire(store_with())
    wire.start("b")
    wire.sender.offer(snap("b"))
    wire.run(60.0, lambda: wire.data_bytes("b") >= 6 * CHUNK_BYTES)
    before = wire.data_bytes("b")
    wire.kill("b")
    assert wire.reports == [("b", False)]
    wire.run(0.5)
    wire.start("b")
    wire.sender.offer(snap("b"))
    wire.until_reported(2)
    assert wire.reports[-1] == ("b", True)
    assert wire.states["b"] == state_of(VALUES)
    repeated = wire.data_bytes("b") - wire.store.snapshot_bytes
    assert before >= 6 * CHUNK_BYTES
    assert repeated <= WINDOW_BYTES


def test_another_leader_with_the_same_snapshot_goes_on() -> None:
    first = Wire(store_with())
    first.start("b")
    first.sender.offer(snap("b"))
    first.run(60.0, lambda: first.data_bytes("b") >= 6 * CHUNK_BYTES)
    second = Wire(store_with())
    second.disks["b"] = first.disks["b"]
    second.leads_term = 4
    second.start("b")
    second.sender.offer(snap("b", term=4))
    second.until_reported()
    assert second.reports == [("b", True)]
    assert second.states["b"] == state_of(VALUES)
    assert second.data_bytes("b") <= second.store.snapshot_bytes - 4 * CHUNK_BYTES


def test_a_newer_snapshot_replaces_the_one_under_way() -> None:
    wire = Wire(store_with())
    wire.start("b")
    wire.sender.offer(snap("b"))
    wire.run(60.0, lambda: wire.data_bytes("b") >= 4 * CHUNK_BYTES)
    take(wire.store, 5, meta(9))
    wire.until_reported()
    assert wire.reports == [("b", True)]
    assert wire.stores["b"].snapshot_meta == meta(9)
    assert wire.taken == [snap("b", of=meta(9))]


def test_a_few_at_a_time_and_all_in_the_end() -> None:
    wire = Wire(store_with(3))
    names = [f"n{number}" for number in range(11)]
    for name in names:
        wire.start(name)
        wire.sender.offer(snap(name))
    most = 0

    def is_over() -> bool:
        nonlocal most
        begun = {to for to, chunk in wire.sent if chunk.data}
        most = max(most, len(begun) - len(wire.reports))
        return len(wire.reports) == len(names)

    wire.run(60.0, is_over)
    assert sorted(wire.reports) == sorted((name, True) for name in names)
    assert 1 < most <= TRANSFERS_MAX


def test_who_is_silent_is_given_up_and_makes_room() -> None:
    wire = Wire(store_with(3))
    for name in "bcdef":
        wire.start(name)
        wire.sender.offer(snap(name))
    for name in "bcde":
        wire.receivers[name].on_chunk = lambda *said, **more: None  # type: ignore[method-assign]
    wire.run(STALLED_S + 2.0)
    assert wire.reports == [*((name, False) for name in "bcde"), ("f", True)]
    assert len([to for to, _ in wire.sent if to == "b"]) <= STALLED_S + 1


def test_who_leads_no_more_stops_sending() -> None:
    wire = Wire(store_with())
    wire.start("b")
    wire.sender.offer(snap("b"))
    wire.run(0.03)
    wire.leads_term = 4
    wire.run(0.1)
    sent = len(wire.sent)
    wire.run(3.0)
    assert len(wire.sent) == sent
    assert not wire.reports


def test_who_has_it_already_is_not_sent_it() -> None:
    wire = Wire(store_with())
    wire.start("b")
    wire.commits["b"] = 8
    wire.sender.offer(snap("b"))
    wire.until_reported()
    assert wire.data_bytes("b") == 0
    assert wire.taken == [snap("b")], "the core says how far it is"


def test_an_old_leader_is_not_heard() -> None:
    wire = Wire(store_with())
    wire.start("b")
    chunk = Chunk(snap("b"), 100, 0, b"")
    assert wire.receivers["b"].on_chunk(chunk, term=4, commit=0) is None
    newer = Chunk(snap("b", term=5), 100, 0, b"")
    assert wire.receivers["b"].on_chunk(newer, term=4, commit=0) is not None
    assert wire.receivers["b"].on_chunk(chunk, term=3, commit=0) is None


def test_a_damaged_file_is_noticed_and_said() -> None:
    wire = Wire(store_with())
    wire.start("b")
    read = wire.store.read_snapshot

    def damaged(offset: int, count: int) -> bytes:
        data = bytearray(read(offset, count))
        if offset == 3 * CHUNK_BYTES:
            data[77] ^= 4
        return bytes(data)

    wire.store.read_snapshot = damaged  # type: ignore[method-assign]
    wire.sender.offer(snap("b"))
    wire.until_reported()
    assert wire.reports == [("b", False)]
    assert (wire.damaged, wire.taken, wire.commits["b"]) == (1, [], 0)
    wire.store.read_snapshot = read  # type: ignore[method-assign]
    wire.sender.offer(snap("b"))
    wire.until_reported(2)
    assert wire.reports[-1] == ("b", True)


CHUNK = Chunk(snap("b"), 100, 10, b"x" * 90).to_wire()
RECEIPT = Receipt(7, 10).to_wire()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {**CHUNK, "message": None},
        {**CHUNK, "message": Message(MessageType.HEARTBEAT, "b", "a", 3).to_wire()},
        {**CHUNK, "message": snap("b", of=meta(0, 0)).to_wire()},
        {**CHUNK, "total": 99},
        {**CHUNK, "offset": 11},
        {**CHUNK, "offset": -1},
        {**CHUNK, "offset": True},
        {**CHUNK, "data": "x"},
        {**CHUNK, "total": 1 << 70},
    ],
)
def test_malformed_chunks(body: dict[str, Any]) -> None:
    Chunk.from_wire(CHUNK)
    with pytest.raises(MalformedMessage):
        Chunk.from_wire(body)


@pytest.mark.parametrize(
    "body",
    [{}, {**RECEIPT, "have": -1}, {**RECEIPT, "index": "7"}, {**RECEIPT, "done": 1}],
)
def test_malformed_receipts(body: dict[str, Any]) -> None:
    Receipt.from_wire(RECEIPT)
    with pytest.raises(MalformedMessage):
        Receipt.from_wire(body)
