"""Wires over real sockets: whole records, sealed ones that nobody can change, and strangers."""

import contextlib
import secrets
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from collectives import reception
from collectives.errors import Aborted, LostPeer, OutOfStep
from collectives.offers import HELLO, RANDOM_BYTES, Offer
from collectives.plane import CurveKeys, DataPlane
from collectives.reception import RANK, Guest
from collectives.records import TAG_BYTES, GcmSeal, Record
from collectives.wire import Wire

KEYS = CurveKeys(*zmq.curve_keypair(), *zmq.curve_keypair())
OFFER = Offer.make(secrets.token_bytes(RANDOM_BYTES), sealed=True, address=1234)


def pair(*, sealed: bool = True) -> tuple[Wire, Wire]:
    """The lower rank's end and the higher one's."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    offer = Offer.make(secrets.token_bytes(RANDOM_BYTES), sealed=sealed, address="")
    down, up = offer.seals()
    other_down, other_up = offer.seals()
    return Wire(1, ends[0], down, up), Wire(0, ends[1], other_up, other_down)


def carry(near: Wire, far: Wire, record: Record, payload: bytes) -> bytes:
    near.begin(record, memoryview(payload))
    near.flush()
    while (came := far.next()) is None:
        near.flush()
    assert came == record
    room = bytearray(record.length)
    while not far.take(memoryview(room)):
        near.flush()
    return bytes(room)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 600_000), max_size=5), st.booleans())
def test_records_arrive_whole_and_in_order_both_ways(lengths: list[int], sealed: bool) -> None:
    one, other = pair(sealed=sealed)
    with contextlib.closing(one._socket), contextlib.closing(other._socket):
        for number, length in enumerate(lengths):
            payload = secrets.token_bytes(length)
            record = Record(number, 2**32 - 1, 1, number, length)
            assert carry(one, other, record, payload) == payload
            assert carry(other, one, record, payload) == payload


def test_what_a_lost_rank_sent_is_read_before_it_is_lost() -> None:
    one, other = pair()
    one.begin(Record(1, 2, 0, 0, 3), memoryview(b"abc"))
    assert one.flush()
    one.end()
    assert other.next() == Record(1, 2, 0, 0, 3)
    room = bytearray(3)
    assert other.take(memoryview(room))
    assert room == b"abc"
    with pytest.raises(LostPeer, match="rank 0 is gone"):
        other.next()
    other.begin(Record(1, 2, 0, 0, 0), memoryview(b""))
    with pytest.raises(LostPeer):
        other.flush()
    other.end()


def sealed(seal: GcmSeal, piece: bytes) -> bytes:
    out = bytearray(len(piece) + TAG_BYTES)
    seal.close(piece, memoryview(out))
    return bytes(out)


def opened(seal: GcmSeal, piece: bytes) -> bytes:
    out = bytearray(len(piece) - TAG_BYTES)
    seal.open(memoryview(piece), memoryview(out))
    return bytes(out)


def test_pieces_that_were_changed_repeated_left_out_or_sent_back_do_not_open() -> None:
    down, up = OFFER.seals()
    assert down is not None
    assert up is not None
    first, second = sealed(down, b"first"), sealed(down, b"second")
    assert b"first" not in first

    def receiver() -> GcmSeal:
        seal = OFFER.seals()[0]
        assert seal is not None
        return seal

    seal = receiver()
    assert opened(seal, first) == b"first"
    assert opened(seal, second) == b"second"
    for at in range(len(first)):
        changed = bytearray(first)
        changed[at] ^= 1
        with pytest.raises(OutOfStep, match="changed"):
            opened(receiver(), bytes(changed))
    with pytest.raises(OutOfStep):
        opened(receiver(), second)  # the first is missing
    seal = receiver()
    opened(seal, first)
    with pytest.raises(OutOfStep):
        opened(seal, first)  # again
    with pytest.raises(OutOfStep):
        opened(up, first)  # back to its sender
    with pytest.raises(OutOfStep):
        opened(receiver(), first[:-1])


@given(st.binary(max_size=300))
def test_no_bytes_crash_an_offer(data: bytes) -> None:
    with contextlib.suppress(struct.error):
        Offer.unpack(data)
    assert Offer.unpack(OFFER.pack()) == OFFER


@pytest.fixture
def knock() -> Iterator[Any]:
    """A guest at the door, and the socket from which it comes."""
    made: list[Any] = []

    def connect() -> tuple[Guest, socket.socket]:
        inside, outside = socket.socketpair()
        made.extend((inside, outside))
        return Guest(inside), outside

    yield connect
    for one in made:
        one.close()


def greeting(offer: Offer, password: bytes, rank: int = 2) -> bytes:
    """What a higher rank sends first."""
    ends = socket.socketpair()
    down, up = offer.seals()
    wire = Wire(0, ends[0], up, down)
    wire.begin(HELLO, memoryview(password))
    wire.flush()
    with closing(ends[0]), closing(ends[1]):
        return RANK.pack(rank) + ends[1].recv(1000)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_only_who_knows_the_password_gets_in_and_only_once(knock: Any, is_sealed: bool) -> None:
    random = secrets.token_bytes(RANDOM_BYTES)
    offer = Offer.make(random, sealed=is_sealed, address=1)
    strangers = [
        b"",
        b"GET / HTTP/1.0\r\n\r\n" + bytes(200),
        greeting(offer, offer.password, rank=7),
        greeting(offer, bytes(16)),
        greeting(Offer.make(bytes(RANDOM_BYTES), sealed=is_sealed, address=1), bytes(16)),
        RANK.pack(2) + bytes(200),
    ]
    for said in strangers:
        guest, outside = knock()
        outside.sendall(said)
        outside.shutdown(socket.SHUT_WR)
        with pytest.raises((OutOfStep, LostPeer)):
            guest.prove({2: offer})
    guest, outside = knock()
    said = greeting(offer, offer.password)
    for at in range(0, len(said), 7):
        assert guest.prove({2: offer}) is None
        outside.sendall(said[at : at + 7])
    wire = guest.prove({2: offer})
    assert wire is not None
    assert wire.rank == 2
    again, outside = knock()
    outside.sendall(said)
    with pytest.raises(OutOfStep, match="not expected"):
        again.prove({})


def test_strangers_do_not_keep_the_ranks_from_connecting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than there is patience for, before anybody else comes."""
    monkeypatch.setattr(reception, "STRANGERS_MAX", 3)
    bound = reception._bound
    crowd: list[socket.socket] = []

    def crowded(host: str) -> socket.socket:
        listening = bound(host)
        listening.listen(64)
        crowd.extend(socket.create_connection(listening.getsockname()) for _ in range(8))
        return listening

    monkeypatch.setattr(reception, "_bound", crowded)
    planes = [DataPlane("127.0.0.1", str(tmp_path / str(rank)), KEYS) for rank in range(2)]
    members = [plane.endpoints for plane in planes]
    for at, plane in enumerate(planes):
        object.__setattr__(members[at], "host", f"host {at}")
        assert plane.endpoints.host == f"host {at}"

    def act(rank: int) -> bool:
        group = planes[rank].enter("job", 1, rank, members)
        out = np.ones(300_000, np.float32)
        group.all_reduce(out, out, "sum")
        return bool((out == 2).all())

    with ThreadPoolExecutor(2) as pool:
        try:
            assert list(pool.map(act, range(2), timeout=10)) == [True, True]
        except BaseException:
            for plane in planes:
                plane.abort(9)
            raise
    for one in (*planes, *crowd):
        one.close()


def test_a_member_that_wants_the_clear_is_refused_where_tcp_is_sealed(tmp_path: Path) -> None:
    plain = DataPlane("127.0.0.1", str(tmp_path / "0"), KEYS)
    other = DataPlane("127.0.0.1", str(tmp_path / "1"), KEYS)
    members = [plain.endpoints, other.endpoints]
    for at, member in enumerate(members):
        object.__setattr__(member, "host", f"host {at}")
    with ThreadPoolExecutor(1) as pool:
        groups = [p.enter("job", 1, rank, members) for rank, p in enumerate((plain, other))]
        object.__setattr__(plain.site, "plain_tcp", True)  # now that its sockets are CURVE ones
        first = pool.submit(groups[0].barrier)
        with pytest.raises(Aborted, match="in the clear"):
            groups[1].barrier()
        assert isinstance(first.exception(5), Aborted)
    plain.close()
    other.close()
