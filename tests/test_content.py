"""Files by hash: the pure transfer against sources that die, lie and stall; the folder; threads."""

import asyncio
import contextlib
import hashlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.clock import ManualClock
from p2p.content import folder as folders
from p2p.content import transfer as transfers
from p2p.content.contract import Fetched, MemoryContent, MemoryHub, Source
from p2p.content.folder import ContentFolder, NoRoom, hash_file
from p2p.content.messages import (
    SLICE_BYTES,
    Ask,
    MalformedSlice,
    Slice,
    ask_from_frame,
    ask_to_frame,
    slice_from_frames,
    slice_to_frames,
)
from p2p.content.thread import ContentThread
from p2p.content.transfer import SILENT_S, STRIKES_MAX, WINDOW_SLICES, Transfer
from p2p.errors import P2PError
from p2p.fetching import Fetching
from p2p.wire.envelope import Envelope, decode, encode
from p2p.wire.keys import ClusterKey
from p2p.wire.network import Listener
from p2p.wire.sockets import ZmqNetwork
from tests.peer_fakes import applied, described, founded

SHA = hashlib.sha256(b"").hexdigest()

# -- the pure transfer ----------------------------------------------------------------------------


def whole(slices: int, rest: int = 17) -> bytes:
    return random.Random(slices).randbytes(slices * SLICE_BYTES + rest)


def play(
    data: bytes, behaviours: dict[str, str], seed: int, have: bytes = b""
) -> tuple[bytes, str, set[str]]:
    """Fetch `data` from sources that behave as said; returns what was written, the failure, and who
    has another file."""
    rng = random.Random(seed)
    sound = hashlib.sha256(data).digest()
    transfer, written, restarts = Transfer(len(data), list(behaviours), len(have)), have, 0
    now_s, waiting = 0.0, []
    for _ in range(20_000):
        transfer.on_time(now_s)
        waiting += transfer.wanted(now_s)
        assert len(waiting) <= 4 * WINDOW_SLICES
        if restarts != transfer.restarts:
            restarts, written = transfer.restarts, b""
        if transfer.failure:
            return written, transfer.failure, transfer.wrong
        if transfer.is_complete:
            is_sound = hashlib.sha256(written).digest() == sound
            transfer.on_checked(is_sound)
            if is_sound:
                return written, "", transfer.wrong
            continue
        if not waiting or rng.random() < 0.05:
            now_s += SILENT_S / 2
            continue
        wanted = waiting.pop(rng.randrange(len(waiting)))
        piece = data[wanted.offset : wanted.offset + wanted.count]
        match behaviours[wanted.source]:
            case "dead":
                continue
            case "dies" if rng.random() < 0.3:
                behaviours[wanted.source] = "dead"
                continue
            case "lost" if rng.random() < 0.1:
                continue
            case "none":
                transfer.on_refusal(wanted.source, wanted.offset, "does not have it")
                continue
            case "lies":
                piece = bytes(len(piece))
            case "short":
                piece = piece[:-1]
        for ready in transfer.on_slice(wanted.source, wanted.offset, piece):
            written += ready
        if rng.random() < 0.1:  # the network says it twice
            assert transfer.on_slice(wanted.source, wanted.offset, piece) == []
        if restarts != transfer.restarts:
            restarts, written = transfer.restarts, b""
    raise AssertionError("it never ends")


BAD = st.sampled_from(["dead", "dies", "none", "lies", "short"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 20), st.lists(BAD, max_size=3), st.integers(0, 2**32), st.integers(0, 3))
def test_one_honest_source_is_enough(slices: int, bad: list[str], seed: int, part: int) -> None:
    data = whole(slices)
    sources = {f"bad-{i}": kind for i, kind in enumerate(bad)}
    had = data[: min(part, slices) * SLICE_BYTES]
    if seed % 3 == 0:  # what an earlier fetch left is damaged
        had = bytes(len(had))
    honest = "lost" if seed % 2 else "good"
    written, failure, wrong = play(data, {**sources, "honest": honest}, seed, had)
    assert (written, failure, "honest" in wrong) == (data, "", False)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.lists(BAD, min_size=1, max_size=3), st.integers(0, 2**32))
def test_without_one_every_source_is_named_with_its_reason(
    slices: int, bad: list[str], seed: int
) -> None:
    sources = {f"bad-{i}": kind for i, kind in enumerate(bad) if kind != "dies"}
    _, failure, wrong = play(whole(slices), dict(sources), seed)
    assert wrong == {name for name, kind in sources.items() if kind in ("lies", "short")}
    for name, kind in sources.items():
        why = {
            "dead": "does not answer",
            "none": "does not have it",
            "lies": "sent bytes that do not match the hash",
            "short": "sent a slice of another length",
        }[kind]
        assert f"{name} {why}" in failure


def test_at_most_a_window_is_held_and_asked_for() -> None:
    transfer = Transfer(100 * SLICE_BYTES, ["a", "b", "c"])
    first = list(transfer.wanted(0.0))
    assert len(first) == WINDOW_SLICES
    for wanted in first[1:]:  # all but the first: nothing can be written, nothing more is asked
        assert transfer.on_slice(wanted.source, wanted.offset, bytes(wanted.count)) == []
    assert list(transfer.wanted(1.0)) == []
    ready = transfer.on_slice(first[0].source, 0, bytes(SLICE_BYTES))
    assert len(ready) == WINDOW_SLICES


def test_a_source_that_was_silent_is_tried_with_one_slice() -> None:
    transfer = Transfer(100 * SLICE_BYTES, ["a"])
    list(transfer.wanted(0.0))
    for strike in range(1, STRIKES_MAX):
        assert transfer.on_time(SILENT_S * strike) == ["a"]
        assert len(list(transfer.wanted(SILENT_S * strike))) == 1
    transfer.on_time(SILENT_S * STRIKES_MAX)
    assert transfer.failure == "a does not answer"


# -- messages -------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_bytes_from_anywhere_are_malformed_or_a_message(head: bytes, data: bytes) -> None:
    for read in (lambda: ask_from_frame("c", head), lambda: slice_from_frames("c", head, data)):
        with contextlib.suppress(MalformedSlice):
            read()


def test_messages_round_trip_and_keep_to_their_bounds() -> None:
    ask = Ask(SHA, 10 * SLICE_BYTES, SLICE_BYTES, SLICE_BYTES)
    assert ask_from_frame("c", ask_to_frame("c", ask)) == ask
    given_ = Slice(SHA, 3, b"abc")
    assert slice_from_frames("c", *slice_to_frames("c", given_)) == given_
    for wrong in (
        Ask(SHA, 10, 5, 6),
        Ask(SHA, 10, -1, 2),
        Ask(SHA, 1 << 60, 0, 1),
        Ask(SHA, 2**40, 0, SLICE_BYTES + 1),
    ):
        with pytest.raises(MalformedSlice):
            ask_from_frame("c", ask_to_frame("c", wrong))
    with pytest.raises(MalformedSlice):
        ask_from_frame("other", ask_to_frame("c", ask))


# -- the folder -----------------------------------------------------------------------------------


def test_a_part_goes_on_after_a_restart_and_gets_its_name_when_whole(tmp_path: Path) -> None:
    data = whole(2)
    sha = hashlib.sha256(data).hexdigest()
    part = ContentFolder(tmp_path).begin(sha, len(data))
    part.append(data[:SLICE_BYTES])
    part.close()
    folder = ContentFolder(tmp_path)
    folder.tidy()
    assert folder.find(sha) is None
    part = folder.begin(sha, len(data))
    assert part.have == SLICE_BYTES
    while not part.catch_up(1_000):
        pass
    part.append(data[SLICE_BYTES:])
    assert part.is_sound()
    path = part.finish()
    assert folder.find(sha) == path
    assert path.read_bytes() == data
    assert folder.read(sha, len(data), 5, 7) == data[5:12]
    assert [entry.name for entry in tmp_path.iterdir()] == [sha]
    folder.remove(sha)
    assert list(tmp_path.iterdir()) == []


def test_what_is_offered_is_served_only_as_the_regular_file_that_it_was(tmp_path: Path) -> None:
    folder, file = ContentFolder(tmp_path / "content"), tmp_path / "mine"
    file.write_bytes(b"abc")
    sha = hash_file(file)[0]
    folder.offer(sha, file)
    assert folder.read(sha, 3, 1, 2) == b"bc"
    file.write_bytes(b"abcd")
    assert folder.read(sha, 3, 1, 2) == "has another file there now"
    file.unlink()
    assert "No such file" in str(folder.read(sha, 3, 0, 3))
    os.mkfifo(file)
    assert folder.read(sha, 3, 0, 3) == "has another file there now"
    file.unlink()
    file.symlink_to("/dev/zero")
    assert "cannot read it" in str(folder.read(sha, 3, 0, 3))
    assert folder.read("../mine", 3, 0, 3) == "does not have it"
    with pytest.raises(P2PError, match="no regular file"):
        hash_file(Path("/dev/zero"))


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoRoom, match="above the bound of 10"):
        ContentFolder(tmp_path, bytes_max=10).begin(SHA, 11)
    with pytest.raises(NoRoom, match="are kept for the log"):
        ContentFolder(tmp_path, bytes_max=1 << 62).begin(SHA, 1 << 61)
    assert list(tmp_path.iterdir()) == []
    part = ContentFolder(tmp_path).begin(SHA, 10)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders.os, "pwrite", full)
    with pytest.raises(P2PError, match="No space left on device"):
        part.append(b"abc")
    assert list(tmp_path.iterdir()) == []  # its room was given back


# -- the threads ----------------------------------------------------------------------------------


class Host:
    """As much of a peer as files need: a control socket that says where they are."""

    def __init__(self, key: ClusterKey, path: Path, name: str) -> None:
        self.folder = ContentFolder(path)
        self.network = ZmqNetwork(key, "127.0.0.1:0", None)
        self.files = ContentThread(self.folder, key, "127.0.0.1", name)
        self.source = Source(name, name, self.network.address)
        self._key = key

    def start(self) -> None:
        self.network.start(Listener(self.answer, lambda peer, up: None))
        self.files.start()

    def answer(self, data: bytes, route: bytes | None) -> None:
        body = decode(data, self._key.cluster_id).body
        assert body["verb"] == "content"
        assert route is not None
        told = {"ok": {"port": self.files.port}, "id": body["id"]}
        self.network.reply(route, encode(Envelope(self._key.cluster_id, "x", "", "reply", told)))

    def close(self) -> None:
        self.files.close()
        self.network.close()


async def fetched(host: Host, sha: str, size: int, *sources: Host) -> Fetched:
    done: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
    host.files.fetch(sha, size, [source.source for source in sources], done.set_result)
    return await asyncio.wait_for(done, 30)


def test_threads_fetch_from_whoever_has_it(tmp_path: Path) -> None:
    data = whole(9)
    sha = hashlib.sha256(data).hexdigest()

    async def main() -> None:
        key = ClusterKey.fresh()
        hosts = [Host(key, tmp_path / name, name) for name in "abcd"]
        a, b, c, d = hosts
        for host in hosts:
            host.start()
        try:
            a.folder.put(data)
            (tmp_path / "lie").write_bytes(bytes(len(data)))
            b.files.offer(sha, tmp_path / "lie")
            got = await fetched(d, sha, len(data), a, b, c)
            assert got.path is not None
            assert got.path.read_bytes() == data
            none = hashlib.sha256(b"none").hexdigest()
            got = await fetched(d, none, 4, a, c)
            assert got.problem.endswith("(4 bytes): a does not have it; c does not have it")
            got = await fetched(c, sha, len(data), b)
            assert "b sent bytes that do not match the hash" in got.problem
            assert not list((tmp_path / "c").iterdir())
            small = [os.urandom(100) for _ in range(40)]
            shas = [a.folder.put(each) for each in small]
            several = await asyncio.gather(*(fetched(c, each, 100, a, d) for each in shas))
            assert [each.path.read_bytes() for each in several if each.path] == small
        finally:
            for host in hosts:
                host.close()

    asyncio.run(main())


def test_a_source_that_hangs_or_came_back_elsewhere_costs_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "SILENT_S", 0.2)
    data, more = whole(20), whole(3)

    async def main() -> None:
        key = ClusterKey.fresh()
        a, b, c = hosts = [Host(key, tmp_path / name, name) for name in "abc"]
        for host in hosts:
            host.network.start(Listener(host.answer, lambda peer, up: None))
        a.files.start()
        c.files.start()  # b has a port, but nobody reads there
        try:
            shas = [a.folder.put(each) for each in (data, more)]
            got = await fetched(c, shas[0], len(data), b, a)
            assert got.path is not None
            assert got.path.read_bytes() == data
            a.files.close()
            a.files = ContentThread(a.folder, key, "127.0.0.1", "a")
            a.files.start()  # at another port
            got = await fetched(c, shas[1], len(more), a)
            assert got.path is not None
        finally:
            for host in hosts:
                host.close()

    asyncio.run(main())


def test_the_twin_fetches_when_it_is_delivered() -> None:
    hub, told = MemoryHub(), []
    a, b = MemoryContent(hub, "a"), MemoryContent(hub, "b")
    a.put(b"abc", told.append)
    sha = hashlib.sha256(b"abc").hexdigest()
    b.fetch(sha, 3, [Source("a", "a", "h:1")], told.append)
    assert b.find(sha) is None
    assert hub.deliver() == 2
    assert b.find(sha) is not None
    b.fetch(SHA, 0, [Source("a", "a", "h:1")], told.append)
    hub.deliver()
    assert [each.problem for each in told] == ["", "", "a does not have it"]


def test_wanting_begins_one_fetch_and_waits_longer_after_each_failure() -> None:
    hub, clock, changes = MemoryHub(), ManualClock(), []
    fetching = Fetching("a", MemoryContent(hub, "a"), clock, lambda: changes.append(1))
    state = founded("a", "b", "c")
    sha = hashlib.sha256(b"abc").hexdigest()
    for waits_s in (1.0, 2.0, 4.0):
        assert fetching.want(state, sha, 3) is None
        assert fetching.want(state, sha, 3) is None
        assert hub.deliver() == 1
        assert fetching.problem(sha) == "name-b does not have it; name-c does not have it"
        clock.advance(waits_s - 0.1)
        fetching.want(state, sha, 3)
        assert hub.deliver() == 0
        clock.advance(0.1)
    MemoryContent(hub, "b").put(b"abc", lambda fetched: None)
    fetching.want(state, sha, 3, ["b"])
    hub.deliver()
    assert fetching.want(state, sha, 3) is not None
    assert (fetching.problem(sha), len(changes)) == ("", 4)


def test_who_was_not_there_when_a_fetch_failed_is_asked_at_once() -> None:
    """A peer with the file that was killed and comes back, after many failures."""
    hub, clock = MemoryHub(), ManualClock()
    fetching = Fetching("a", MemoryContent(hub, "a"), clock, lambda: None)
    state = founded("a", "b")
    sha = hashlib.sha256(b"abc").hexdigest()
    for _ in range(4):
        fetching.want(state, sha, 3, ["b"])
        hub.deliver()
        clock.advance(8.0)
    fetching.want(state, sha, 3, ["b"])
    hub.deliver()
    MemoryContent(hub, "b").put(b"abc", lambda fetched: None)
    hub.deliver()
    fetching.want(state, sha, 3, ["b"])
    assert hub.deliver() == 0, "the same process will not have it yet"
    state = applied(state, {"type": "member.join", "member": described("b", incarnation="2")})
    fetching.want(state, sha, 3, ["b"])
    hub.deliver()
    assert fetching.want(state, sha, 3) is not None
