"""A trainer that waits for a seat: it follows, and costs the others nothing."""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zmq

from collectives.plane import CurveKeys, Endpoints
from p2p.tasks.digits import Digits
from p2p.training import follower as following
from p2p.training import giver as giving
from p2p.training import giver_socket as sockets
from p2p.training.catchup import catch_up
from p2p.training.follower import Follow, Follower
from p2p.training.giver import Answer, Giver
from p2p.training.giver_socket import GiverSocket, Interrupted, Link, Lost, address_of
from p2p.training.run import Run
from tests.fake_group import groups, together
from tests.training_fakes import new_run, steps

ALONE = [(0, 12)]
Happening = Callable[[int], None]


class Bell:
    """Interrupts every link when it is rung."""

    rung = False


class Wire:
    """A Link to a giver in this process. `happens` is called before each answer, with its number:
    what goes on in the ring meanwhile."""

    def __init__(self, giver: Giver, bell: Bell, happens: Happening) -> None:
        self.giver, self.bell, self.happens = giver, bell, happens
        self.questions: deque[dict[str, Any]] = deque()
        self.answered = 0
        self.lost = False
        self.who = str(id(self))

    def ask(self, **question: Any) -> None:
        if question["what"] == "bye":
            self.giver.answer(self.who, question)
        else:
            self.questions.append(question)

    def answer(self) -> Answer:
        self.answered += 1
        self.happens(self.answered)
        if self.lost:
            raise Lost("gone")
        if self.bell.rung:
            raise Interrupted
        head, payload = self.giver.answer(self.who, self.questions.popleft())
        return head, memoryview(bytes(payload))

    def forget(self) -> None:
        self.questions.clear()

    def close(self) -> None:
        self.lost = True


class Ring:
    """One trainer that trains, with its giver, and what it takes to follow it."""

    def __init__(self, **spec: Any) -> None:
        self.run = new_run(Digits, **spec)
        self.giver = Giver(self.run)
        self.bell = Bell()
        self.wires: list[Wire] = []
        self.said_level_at: list[int] = []

    def step(self, mark: bool = False) -> None:
        self.giver.wait_copied()
        before = self.run.strategy.retained
        steps([self.run], ALONE, 1, {0})
        result = self.run.strategy.retained
        assert result is not None
        assert result is not before
        self.giver.applied(result)
        if mark:
            self.giver.marked()
            self.giver.wait_copied()

    def follower(self, run: Run, happens: Happening) -> Follower:
        def connect(endpoints: Mapping[str, Any]) -> Link:
            self.wires.append(Wire(self.giver, self.bell, happens))
            return self.wires[-1]

        made = Follower(run, connect, lambda: self.said_level_at.append(run.position.step))
        assert made.is_learning
        return made


pytestmark = pytest.mark.usefixtures("small")


def enter(*runs: Run) -> list[str | None]:
    """All in one generation; what each received."""
    pairs = zip(groups(len(runs)), runs, strict=True)
    return [told.received for told in together([partial(catch_up, *pair) for pair in pairs])]


ORDER = Follow(1, [{"a": 1}, {"b": 2}], None)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "BYTES_MIN", 0)
    monkeypatch.setattr(following, "ASK_AGAIN_S", 0.0)
    monkeypatch.setattr(sockets, "ANSWERED_WITHIN_S", 0.5)
    for module in (following, giving):
        monkeypatch.setattr(module, "PIECE_BYTES", 1 << 16)


@pytest.mark.parametrize("spec", [{}, {"codec": "int8"}, {"strategy": "local-sgd"}])
def test_it_stands_where_the_ring_does(spec: dict[str, Any]) -> None:
    """Between its questions the ring steps on; at its entry it lacks nothing or one result."""
    ring, joiner = Ring(**spec), new_run(Digits, **spec)
    ring.step()

    def happens(number: int) -> None:
        if number in (2, 6, 10, 14, 18):
            ring.step(mark=ring.giver.wants_mark)
        ring.bell.rung = bool(ring.said_level_at) and number > 22

    follower = ring.follower(joiner, happens)
    follower.follow(ORDER)
    assert len(ring.said_level_at) == 1
    assert joiner.position.step == ring.run.position.step > 4
    ring.bell.rung = False
    wire, entered = ring.wires[-1], 1
    ring.step()
    ring.step()

    def leaves(number: int) -> None:
        """The ring makes its round to the end before it leaves for the new generation."""
        nonlocal entered
        if joiner.position.step == ring.run.position.step:
            entered += 1
            if entered == 3:
                ring.step()
            ring.giver.generation = entered

    wire.happens = leaves
    follower.finish(5, ORDER.givers)
    assert entered >= 5
    assert joiner.position.to_wire() == ring.run.position.to_wire()
    assert joiner.hash() == ring.run.hash()
    assert not follower.is_learning
    assert wire.lost
    assert not ring.giver._results
    assert ring.giver._state is None
    pair = groups(2)
    told = together(
        [lambda r=r, g=g: catch_up(g, r) for r, g in zip([ring.run, joiner], pair, strict=True)]
    )
    assert [each.received for each in told] == [None, None]
    steps([ring.run, joiner], [(0, 5), (5, 12)], 2, {0, 1})
    assert joiner.hash() == ring.run.hash()


def test_a_giver_that_dies_and_what_is_damaged_are_passed_over() -> None:
    ring, joiner = Ring(), new_run(Digits)
    ring.step()

    def happens(number: int) -> None:
        if ring.giver.wants_mark:
            ring.step(mark=True)
        if len(ring.wires) == 1 and number == 4:
            ring.wires[0].lost = True  # in the middle of the state
        if len(ring.wires) == 2 and number == 3:
            _, _, contents = ring.giver._state or pytest.fail("no copy")
            contents.data[1000] ^= 1
        ring.bell.rung = bool(ring.said_level_at)

    follower = ring.follower(joiner, happens)
    follower.follow(ORDER)
    assert len(ring.wires) == following.BEGINS_MAX == 3
    ring.giver.generation = 2
    follower.finish(2, ORDER.givers)
    assert joiner.hash() == ring.run.hash()


def test_who_is_too_slow_enters_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The results that nobody fetches are bounded, and then gone."""
    monkeypatch.setattr(giving, "QUEUE_STATES_MAX", 0.5)
    ring, joiner = Ring(), new_run(Digits)
    most = 0

    def happens(number: int) -> None:
        nonlocal most
        ring.step(mark=ring.giver.wants_mark)
        most = max(most, ring.giver._kept_bytes)

    follower = ring.follower(joiner, happens)
    follower.follow(ORDER)
    assert len(ring.wires) == 3
    assert ring.said_level_at == [joiner.position.step]
    size = sum(t.nbytes for t in ring.run.tensors().values())
    assert 0 < most < size
    pair = groups(2)
    together(
        [lambda r=r, g=g: catch_up(g, r) for r, g in zip([ring.run, joiner], pair, strict=True)]
    )
    assert joiner.hash() == ring.run.hash()


@pytest.mark.parametrize(
    "spec",
    [
        {"codec": "float32"},
        {"codec": "topk:0.1"},
        {"strategy": "robust"},
        {"strategy": "parameter-server"},
        {"allow_nondeterminism": True},
    ],
)
def test_whose_results_depend_on_more_than_the_step_cannot_be_followed(spec: Any) -> None:
    run = new_run(Digits, **spec)
    assert not following.is_worth_it(run)
    assert Giver(run).answer("x", {"what": "state"})[0] == {"say": "no"}


def test_a_silent_follower_is_forgotten() -> None:
    ring = Ring()
    now_s = 0.0
    ring.giver = Giver(ring.run, lambda: now_s)
    ring.step()
    ring.giver.answer("x", {"what": "state"})
    ring.step(mark=True)
    ring.step()
    assert ring.giver._state is not None
    assert len(ring.giver._results) == 1
    now_s = 2 * giving.SILENT_S
    ring.step()
    assert ring.giver._state is None
    assert not ring.giver._results
    assert ring.giver._next is None
    assert ring.giver.answer("x", {"what": "result", "step": 3})[0]["say"] == "gone"


def test_over_sockets(tmp_path: Path) -> None:
    """By both ways, and with the cluster's keys only."""
    tmp_path.chmod(0o700)
    ring, keys = Ring(), new_keys()
    ring.step()
    here = Endpoints("here", "tcp://127.0.0.1:1", "ipc://x")
    serving = GiverSocket(ring.giver, "127.0.0.1", str(tmp_path), keys)
    own = GiverSocket(Giver(new_run(Digits)), "127.0.0.1", str(tmp_path), keys)
    told = {**here.to_wire(), **serving.endpoints(here)}
    try:
        near, far = address_of(told, here), address_of({**told, "host": "there"}, here)
        assert near is not None
        assert near.startswith("ipc://")
        assert far is not None
        assert far.startswith("tcp://127.0.0.1:")
        assert address_of({}, here) is None
        assert address_of(here.to_wire(), here) is None  # of an older version
        for address in (near, far):
            link = own.link(address, -1, keys)
            link.ask(what="nonsense of")
            link.forget()
            link.ask(what="state")
            head, _ = link.answer()
            if head["say"] == "wait":
                ring.step(mark=True)
                link.ask(what="state")
                head, _ = link.answer()
            link.ask(what="state", at=0)
            _, first = link.answer()
            assert head["say"] == "state"
            assert len(first) == giving.PIECE_BYTES < head["bytes"]
            link.close()
        stranger = own.link(far, -1, new_keys(keys))
        stranger.ask(what="state")
        with pytest.raises(Lost):
            stranger.answer()
        stranger.close()
    finally:
        own.close()
        serving.close()


def new_keys(server: CurveKeys | None = None) -> CurveKeys:
    made = zmq.curve_keypair() if server is None else (server.server_public, b"")
    return CurveKeys(*made, *zmq.curve_keypair())


def test_a_copy_that_cannot_be_made_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_room(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(giving, "Copy", no_room)
    ring = Ring()
    assert ring.giver.answer("x", {"what": "state"})[0]["say"] == "wait"
    ring.step(mark=True)
    ring.step()
    assert "no room" in capsys.readouterr().err
    assert ring.giver.answer("x", {"what": "state"})[0] == {"say": "no"}
