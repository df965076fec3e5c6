"""The data plane over real sockets. Threads stand for processes, except where one is killed."""

import multiprocessing
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from collectives import exchange, links, messages, operations, plane
from collectives.frames import Header, Stream, fingerprint, job_digest, unpack
from collectives.plane import Aborted, CurveKeys, DataPlane, Endpoints, Group, LostPeer, OutOfStep

KEYS = CurveKeys(*zmq.curve_keypair(), *zmq.curve_keypair())
FAR_AHEAD = 1 << 40  # a generation that no test reaches
Planes = Callable[[int], list[DataPlane]]
Act = Callable[[Group], Any]


@pytest.fixture
def planes(tmp_path: Path) -> Iterator[Planes]:
    made: list[DataPlane] = []

    def make(count: int) -> list[DataPlane]:
        made.extend(DataPlane("127.0.0.1", str(tmp_path / "ipc"), KEYS) for _ in range(count))
        return made[-count:]

    yield make
    for one in made:
        one.close()
    assert not list(tmp_path.glob("ipc/*")), "a socket file was left behind"


@pytest.fixture
def small_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that are full after a few chunks."""
    monkeypatch.setattr(plane, "MESSAGES_QUEUED_MAX", 2)
    monkeypatch.setattr(exchange, "CHUNK_BYTES_MAX", 100_000)
    monkeypatch.setattr(exchange, "CHUNK_BYTES_MIN", 100_000)
    monkeypatch.setattr(messages, "CHUNK_BYTES", 100_000)


@pytest.fixture
def by_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "ALGORITHMS", [exchange.Exchange])


@contextmanager
def threads(of: list[DataPlane]) -> Iterator[ThreadPoolExecutor]:
    """Threads to act in; when the test fails, none of them stays blocked in its plane."""
    with ThreadPoolExecutor(4) as pool:
        try:
            yield pool
        except BaseException:
            for one in of:
                one.abort(FAR_AHEAD)
            raise


def begin(pool: ThreadPoolExecutor, of: list[DataPlane], generation: int, act: Act) -> list[Any]:
    """Every plane enters and acts, each in its own thread."""
    members = [one.endpoints for one in of]
    return [
        pool.submit(lambda r, p: act(p.enter("job", generation, r, members)), rank, one)
        for rank, one in enumerate(of)
    ]


def together(of: list[DataPlane], generation: int, act: Act) -> list[Any]:
    with threads(of) as pool:
        return [future.result(30) for future in begin(pool, of, generation, act)]


def over_tcp(members: list[Endpoints]) -> list[Endpoints]:
    return [replace(member, host="another host") for member in members]


def sums(length: int, dtype: str = "i8") -> Act:
    """An all-reduce whose result is known; returns whether it was right."""

    def act(group: Group) -> bool:
        base = np.arange(length, dtype=dtype)
        source, out = base * (group.rank + 1), np.empty_like(base)
        before = source.copy()
        try:
            group.all_reduce(source, out, "sum")
        finally:
            assert (source == before).all(), "source changed"
        return bool((out == base * (group.size * (group.size + 1) // 2)).all())

    return act


# What the operations give.


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [0, 1, 2, 1000, 1_000_003])
def test_all_reduce_sums(planes: Planes, size: int, length: int) -> None:
    assert together(planes(size), 1, sums(length)) == [True] * size


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u1"])
def test_all_reduce_takes_any_number_type(planes: Planes, dtype: str) -> None:
    assert together(planes(3), 1, sums(40, dtype)) == [True] * 3


def test_a_group_counts_what_it_gives_to_others(planes: Planes) -> None:
    def act(group: Group) -> float:
        group.all_reduce(np.ones(600, np.float32), np.empty(600, np.float32), "sum")
        group.send((group.rank + 1) % 3, b"12345")
        group.receive((group.rank + 2) % 3)
        return group.given_bytes

    assert together(planes(3), 1, act) == [2 * 2400 * 2 / 3 + 5] * 3


def test_all_reduce_max_fills_in_what_each_rank_knows(planes: Planes) -> None:
    def act(group: Group) -> list[float]:
        known = np.full((2, 3), -np.inf)
        known[:, group.rank] = group.rank
        out = np.empty_like(known)
        group.all_reduce(known, out, "max")
        return out.ravel().tolist()

    assert together(planes(3), 1, act) == [[0.0, 1.0, 2.0, 0.0, 1.0, 2.0]] * 3


def test_all_gather_and_a_large_direct_send(planes: Planes) -> None:
    state = random.Random(1).randbytes(3_000_001)

    def act(group: Group) -> Any:
        gathered = group.all_gather(b"x" * group.rank)
        if group.rank == 0:
            group.send(2, state)
            group.send(2, b"")
        if group.rank == 2:
            target = bytearray(len(state))
            assert group.receive(0, memoryview(target)) == state
            assert target == state
            assert bytes(group.receive(0)) == b""
        return group.all_gather(gathered[2]), sums(1000)(group)

    assert together(planes(3), 7, act) == [([b"xx"] * 3, True)] * 3


@pytest.mark.usefixtures("small_queues", "by_sockets")
def test_links_that_are_full_on_all_sides_still_move(planes: Planes) -> None:
    def act(group: Group) -> bool:
        right = sums(600_000)(group)
        other = 1 - group.rank
        group.send(other, bytes(2_000_000))  # both at once: each must keep what the other sends
        return right and len(group.receive(other)) == 2_000_000

    assert together(planes(2), 1, act) == [True, True]


def test_ranks_that_run_ahead_do_not_disturb(planes: Planes) -> None:
    """Rank 0 is already in the next collective while rank 1 still waits for rank 2."""
    far = threading.Event()

    def act(group: Group) -> bool:
        if group.rank == 0:
            threading.Timer(0.1, far.set).start()
        if group.rank == 1:
            assert bytes(group.receive(2)) == b"late"
        if group.rank == 2:
            assert far.wait(10)
            group.send(1, b"late")
        return bool(sums(100_000)(group))

    assert together(planes(3), 1, act) == [True] * 3


def test_other_hosts_are_reached_over_curve(planes: Planes) -> None:
    of = planes(2)
    members = over_tcp([one.endpoints for one in of])
    with threads(of) as pool:
        futures = [
            pool.submit(lambda r, p: sums(100_000)(p.enter("job", 1, r, members)), rank, one)
            for rank, one in enumerate(of)
        ]
        assert [future.result(10) for future in futures] == [True, True]


# How operations end early.


def blocked_all_reduce(group: Group) -> None:
    source = np.ones(1_000_000, np.float32)
    group.all_reduce(source, np.empty_like(source), "sum")


def lonely(planes: Planes, generation: int = 3) -> tuple[DataPlane, Group]:
    """A plane in a generation whose other member never comes."""
    first, second = planes(2)
    return first, first.enter("job", generation, 0, [first.endpoints, second.endpoints])


@pytest.mark.parametrize(
    "wait",
    [
        blocked_all_reduce,
        lambda group: group.all_gather(b"x"),
        lambda group: group.receive(1),
        lambda group: group.receive(1, memoryview(bytearray(9))),
    ],
)
def test_abort_ends_a_blocked_operation_and_all_later_ones(planes: Planes, wait: Act) -> None:
    first, group = lonely(planes)
    with threads([first]) as pool:
        future = pool.submit(wait, group)
        first.abort(3)  # only generations below 3: not this one
        assert not future.done()
        first.abort(4)
        with pytest.raises(Aborted):
            future.result(5)
    for again in (blocked_all_reduce, lambda group: group.all_gather(b""), sums(1)):
        with pytest.raises(Aborted):
            again(group)
    with pytest.raises(Aborted):
        first.enter("job", 3, 0, [first.endpoints])
    assert sums(5)(first.enter("job", 4, 0, [first.endpoints]))


@pytest.mark.usefixtures("small_queues")
def test_abort_ends_a_send_that_has_no_room_and_frees_its_memory(planes: Planes) -> None:
    first, group = lonely(planes)
    payload = bytearray(20_000_000)
    with threads([first]) as pool:
        future = pool.submit(group.send, 1, memoryview(payload))
        first.abort(4)
        with pytest.raises(Aborted) as raised:
            future.result(5)
    del future
    raised.value.__traceback__ = None  # its frames hold the memoryview, not the socket
    del raised
    payload.append(1)  # BufferError if anybody could still read it


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("algorithm", ["by_sockets", "small_queues"])  # …, in shared memory
def test_an_aborted_generation_never_leaks_into_the_next(
    planes: Planes, seed: int, algorithm: str, request: pytest.FixtureRequest
) -> None:
    """All ranks are stopped somewhere inside; nobody has a wrong sum, then or afterwards."""
    request.getfixturevalue(algorithm)
    of, rng = planes(3), random.Random(seed)
    spins = [rng.randrange(3000) for _ in of]
    for generation in (1, 2):
        with threads(of) as pool:
            futures: list[Future[bool]] = begin(
                pool, of, generation, lambda group: all(sums(300_000)(group) for _ in range(20))
            )
            for one, count in zip(of, spins, strict=True):
                for _ in range(count):
                    pass
                one.abort(generation + 1)
            for future in futures:
                with suppress(Aborted):
                    assert future.result(10)
    assert together(of, 3, sums(300_000)) == [True] * 3, f"{seed=}"


def test_a_newer_generation_waits_until_we_enter_it(planes: Planes) -> None:
    """Rank 1 is in generation 2 before rank 0 has left generation 1."""
    of = planes(2)
    members = [one.endpoints for one in of]
    old = of[0].enter("job", 1, 0, members)
    with threads(of) as pool:
        ahead = pool.submit(lambda: sums(50_000)(of[1].enter("job", 2, 1, members)))
        behind = pool.submit(blocked_all_reduce, old)
        while not of[0].kept_bytes:
            assert not behind.done()
        of[0].abort(2)
        with pytest.raises(Aborted):
            behind.result(5)
        assert sums(50_000)(of[0].enter("job", 2, 0, members))
        assert ahead.result(5)
    assert of[0].kept_bytes == 0


def test_too_much_from_a_newer_generation_ends_this_one(
    planes: Planes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane, "KEPT_BYTES_MAX", 100_000)
    of = planes(2)
    members = [one.endpoints for one in of]
    old = of[0].enter("job", 1, 0, members)
    with threads(of) as pool:
        ahead = of[1].enter("job", 2, 1, members)
        sent = pool.submit(ahead.send, 0, bytes(200_000))
        with pytest.raises(Aborted, match="ahead"):
            blocked_all_reduce(old)
        assert len(of[0].enter("job", 2, 0, members).receive(1)) == 200_000
        sent.result(5)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (sums(1000), sums(1001)),
        (sums(1000), sums(1000, "f8")),
        (sums(1000), lambda group: group.all_gather(b"x")),
        (lambda group: group.send(1, b"abc"), lambda r: r.receive(0, memoryview(bytearray(4)))),
    ],
)
def test_ranks_in_different_operations_are_told(planes: Planes, one: Act, other: Act) -> None:
    of = planes(2)
    with threads(of) as pool:
        futures = begin(pool, of, 1, lambda group: (one, other)[group.rank](group))
        with pytest.raises(OutOfStep):
            futures[1].result(5)
        of[0].abort(2)


def test_a_closed_plane_aborts_and_stays_closed(planes: Planes) -> None:
    first, group = lonely(planes)
    first.close()
    first.close()
    first.abort(9)
    with pytest.raises(Aborted):
        group.all_gather(b"")


class Cable:
    """A TCP forwarder that can be cut: both ends live on, what is on the way is lost."""

    def __init__(self, target: str) -> None:
        host, port = target.removeprefix("tcp://").rsplit(":", 1)
        self.target = (host, int(port))
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.server.getsockname()[1]}"
        self.ends: list[socket.socket] = []
        self.flowing = threading.Event()
        self.accept = threading.Thread(target=self.connect)
        self.accept.start()

    def connect(self) -> None:
        with suppress(OSError):  # closed
            while True:
                near, _ = self.server.accept()
                far = socket.create_connection(self.target)
                self.ends += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self.carry, args=(source, sink)).start()

    def carry(self, source: socket.socket, sink: socket.socket) -> None:
        carried = 0
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                carried += len(data)
                if carried > 500_000:
                    self.flowing.set()
        source.close()
        sink.close()

    def cut(self) -> None:
        for end in self.ends[:2]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.accept.join()
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_connection_that_breaks_and_comes_back_is_not_waited_on_for_ever(planes: Planes) -> None:
    """Rank 0 sends over a cable that is cut: it notices, though rank 1 can only wait."""
    of = planes(2)

    def send_some(group: Group) -> int:
        group.send(1, bytes(4_000_000))
        return 1

    with closing(Cable(of[1].endpoints.tcp)) as cable, threads(of) as pool:
        through = Endpoints("another host", cable.address, "ipc://none")
        groups = [of[0].enter("job", 1, 0, [of[0].endpoints, through])]
        groups.append(of[1].enter("job", 1, 1, [of[0].endpoints, of[1].endpoints]))
        sender = pool.submit(lambda: [send_some(groups[0]) for _ in range(1000)])
        receiver = pool.submit(lambda: [len(groups[1].receive(0)) for _ in range(1000)])
        assert cable.flowing.wait(10)
        cable.cut()
        assert isinstance(sender.exception(10), LostPeer)
        assert isinstance(receiver.exception(10), LostPeer)


@contextmanager
def member_elsewhere(ipc_dir: Path) -> Iterator[tuple[SpawnProcess, Connection]]:
    """Another process as rank 1, and our end of the pipe to it."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=other_process, args=(str(ipc_dir), KEYS, theirs), daemon=True)
    child.start()
    theirs.close()
    with ours:
        try:
            yield child, ours
        finally:
            child.kill()
            child.join()
            child.close()


def other_process(ipc_dir: str, keys: CurveKeys, parent: Connection) -> None:
    """A member that is killed in the middle: it has sent its part and waits for the rest."""
    one = DataPlane("127.0.0.1", ipc_dir, keys)
    parent.send(one.endpoints)
    group = one.enter("job", 1, 1, parent.recv())
    parent.send("entered")
    while True:
        sums(300_000)(group)


@pytest.mark.parametrize("after", [0, 7])
def test_a_member_killed_mid_way_costs_nothing_but_the_generation(
    planes: Planes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(links, "LINGER_MS", 60_000)
    (first,) = planes(1)
    with member_elsewhere(tmp_path / "other") as (child, ours):
        members = [first.endpoints, ours.recv()]
        ours.send(members)
        assert ours.recv() == "entered"
        group = first.enter("job", 1, 0, members)
        for _ in range(after):
            assert sums(300_000)(group)
        child.kill()
        child.join()
    with threads([first]) as pool:
        future = pool.submit(lambda: [sums(300_000)(group) for _ in range(5)])
        with pytest.raises(LostPeer, match="rank 1"):  # nobody aborts it: the plane itself sees it
            future.result(5)
    assert sums(300_000)(first.enter("job", 2, 0, [first.endpoints]))
    began_s = time.monotonic()
    first.close()
    assert time.monotonic() - began_s < 30, "it does not wait for who is gone"


# Who and what is let in.


Stranger = tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]
Knock = Callable[..., Stranger]
TURNED_AWAY = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)


@pytest.fixture
def knock() -> Iterator[Knock]:
    """Connects from outside: a PUSH socket, and a monitor that tells when it is turned away."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[zmq.Socket[bytes]] = []

    def connect(target: str, curve: tuple[bytes, bytes, bytes] | None = None) -> Stranger:
        push = context.socket(zmq.PUSH)
        if curve is not None:
            push.curve_serverkey, push.curve_publickey, push.curve_secretkey = curve
        # Before it connects: a refusal is told once, and never again to who comes later.
        monitor = push.get_monitor_socket(TURNED_AWAY)
        made.extend((monitor, push))
        push.connect(target)
        return push, monitor

    yield connect
    for one in made:
        one.close(linger=0)
    context.term()


GOOD = Header(job_digest("job"), 5, 0, Stream.COLLECTIVE, 1, 1, 0, fingerprint("x"), 0)


@pytest.mark.parametrize(
    ("parts", "counted_as"),
    [
        ([b""], "malformed"),
        ([b"x" * 1000], "malformed"),
        ([GOOD.pack()], "malformed"),
        ([GOOD.pack(), b"", b""], "malformed"),
        ([b""] * 50, "malformed"),
        ([GOOD.pack()[:-1], b""], "malformed"),
        ([b"XXXX" + GOOD.pack()[4:], b""], "malformed"),
        ([GOOD._replace(stream=9).pack(), b""], "malformed"),  # type: ignore[arg-type]
        ([GOOD._replace(sender=1).pack(), b""], "malformed"),  # ourselves
        ([GOOD._replace(sender=65535).pack(), b""], "malformed"),
        ([GOOD._replace(job=b"8 bytes!").pack(), b""], "other job"),
        ([GOOD._replace(generation=4).pack(), b""], "stale"),
    ],
)
def test_what_does_not_belong_is_counted_and_dropped(
    planes: Planes, knock: Knock, parts: list[bytes], counted_as: str
) -> None:
    of = planes(2)
    push, _ = knock(of[1].endpoints.ipc)

    def act(group: Group) -> Any:
        if group.rank == 1:
            push.send_multipart(parts)
            while not of[1].dropped:
                of[1].pump()
        return sums(1000)(group)

    assert together(of, 5, act) == [True, True]
    assert of[1].dropped == {counted_as: 1}


def test_an_oversized_message_is_refused_before_it_has_memory(planes: Planes, knock: Knock) -> None:
    of = planes(2)
    push, monitor = knock(of[1].endpoints.ipc)
    push.send_multipart([GOOD.pack(), bytes(plane.MESSAGE_BYTES_MAX + 1)])
    assert monitor.poll(5000), "the connection is closed"
    assert together(of, 5, sums(1000)) == [True, True]
    assert not of[1].dropped


@pytest.mark.parametrize("who", ["plain", "own key", "wrong server"])
def test_nobody_without_the_clusters_key_gets_in_over_tcp(
    planes: Planes, knock: Knock, who: str
) -> None:
    (one,) = planes(1)
    public, secret = zmq.curve_keypair()
    curve = {
        "plain": None,
        "own key": (KEYS.server_public, public, secret),
        "wrong server": (public, KEYS.client_public, KEYS.client_secret),
    }[who]
    push, monitor = knock(one.endpoints.tcp, curve)
    push.send_multipart([b"garbage"])
    assert monitor.poll(5000), "the connection is refused"
    assert not one.pump()
    known, _ = knock(
        one.endpoints.tcp, (KEYS.server_public, KEYS.client_public, KEYS.client_secret)
    )
    known.send_multipart([b"garbage"])
    while not one.pump():
        one.wait()
    assert one.dropped == {"malformed": 1}, "only the member's message came"


def test_a_header_survives_the_wire() -> None:
    assert unpack(GOOD.pack()) == GOOD


def test_endpoints_survive_the_wire(planes: Planes) -> None:
    (one,) = planes(1)
    assert Endpoints.from_wire(one.endpoints.to_wire()) == one.endpoints
    wire: list[Any] = [None, [], {"host": 1}, {"host": "h", "tcp": "t"}]
    for wrong in wire:
        with pytest.raises(ValueError, match="not the endpoints"):
            Endpoints.from_wire(wrong)


# Misuse has one sentence.


def test_a_directory_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too long for a Unix socket"):
        DataPlane("127.0.0.1", str(tmp_path / ("d" * 100)), KEYS)


def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(ValueError, match="chmod 700"):
        DataPlane("127.0.0.1", str(tmp_path / "open"), KEYS)


def test_an_address_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        DataPlane("192.0.2.1", str(tmp_path / "ipc"), KEYS)


def test_enter_refuses_what_cannot_be(planes: Planes) -> None:
    (one,) = planes(1)
    with pytest.raises(ValueError, match="rank 1"):
        one.enter("job", 1, 1, [one.endpoints])
    one.enter("job", 2, 0, [one.endpoints])
    with pytest.raises(ValueError, match="cannot follow"):
        one.enter("job", 2, 0, [one.endpoints])
    one.enter("another job", 1, 0, [one.endpoints])


def test_operations_refuse_arrays_they_cannot_use(planes: Planes) -> None:
    (one,) = planes(1)
    group = one.enter("job", 1, 0, [one.endpoints])
    array = np.zeros(10)
    for source, out, op in [
        (array, np.zeros(9), "sum"),
        (array, np.zeros(10, np.float32), "sum"),
        (array[::2], np.zeros(5), "sum"),
        (array[1:], array[:-1], "sum"),
        (array, np.zeros(10), "median"),
        (array, np.zeros(10), "bxor"),
        (np.array([None]), np.array([None]), "sum"),
    ]:
        with pytest.raises(ValueError, match=r"all_reduce|out is|combined|not defined"):
            group.all_reduce(source, out, op)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="all_gather"):
        group.all_gather(bytes(operations.PAYLOAD_BYTES_MAX + 1))
    with pytest.raises(ValueError, match="rank 0"):
        group.send(0, b"")
    assert sums(3)(group), "a refused call harms nothing"
    assert links.EARLY_BYTES_MAX >= plane.MESSAGE_BYTES_MAX
