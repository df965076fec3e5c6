"""The front of prompts: who gets them, what its clients see, and what is bounded. Pure."""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from p2p.measure.catalog import find
from p2p.measure.history import Summary
from p2p.routing import book, choice, endings
from p2p.routing import front as routing
from p2p.routing.front import Front
from p2p.routing.prompts import DEATHS_MAX, Asked, Effect, Target, ToClient, ToReplica, Weights
from p2p.serving.messages import Cancel, Done, Generate, Sampling
from tools.sim.replicas import answer_of, text_of

S = "serve-1"


def target(child: str, peer: str = "", revision: int = 1, digest: str = "d") -> Target:
    return Target(child, peer or f"peer-{child}", S, revision, digest)


def follow(made: Front, *targets: Target, now_s: float = 0.0, newest: int = 1) -> list[Effect]:
    return made.follow(targets, {S: newest}, now_s)


def asked(request: str, max_tokens: int = 8, client: str = "c", **fields: Any) -> Asked:
    given = {name: fields.pop(name) for name in ("text", "sent") if name in fields}
    order = Generate(request, **{"text": f"prompt {request}", "max_tokens": max_tokens, **given})
    return Asked(order, S, f"{client}-{request}", **fields)


def to_replica(effects: Iterable[Effect], kind: Any = Generate) -> list[tuple[str, Any]]:
    return [
        (effect.target.child, effect.order)
        for effect in effects
        if isinstance(effect, ToReplica) and isinstance(effect.order, kind)
    ]


def ends(effects: Iterable[Effect]) -> dict[str, Any]:
    told = [each for each in effects if isinstance(each, ToClient) and each.is_last]
    return {each.request: each.told for each in told}


def front(*children: str) -> Front:
    made = Front()
    follow(made, *map(target, children))
    return made


def done(order: Generate, reason: str = "length", **fields: Any) -> Done:
    return Done(order.request, reason, 3, order.max_tokens, **fields)


def test_the_least_outstanding_replica_is_chosen_by_what_is_told_and_what_was_given() -> None:
    made = front("a", "b")
    made.replicas.load("a").told = 4
    given = [to_replica(made.ask(asked(str(n)), 0.0))[0][0] for n in range(8)]
    assert given == ["b", "b", "b", "b", "a", "b", "a", "b"]
    made.replicas.heard("b", 0.0, prompts=18)
    assert to_replica(made.ask(asked("later"), 0.0))[0][0] == "a"


def test_a_conversation_stays_where_its_cache_is_unless_others_have_much_less_to_do() -> None:
    made = front("a", "b")
    (child, order), *_ = to_replica(made.ask(asked("1", conversation="talk"), 0.0))
    made.done(child, done(order), 0.1)  # its ids never came: it is asked again
    made.cancel("1", 0.1)
    made.replicas.heard(child, 0.1, prompts=choice.STICKY_SLACK)
    assert to_replica(made.ask(asked("2", conversation="talk"), 0.2))[0][0] == child
    made.replicas.heard(child, 0.2, prompts=choice.STICKY_SLACK + 2)
    assert to_replica(made.ask(asked("3", conversation="talk"), 0.2))[0][0] != child


def test_another_replica_goes_on_with_what_was_sent() -> None:
    made = front("a", "b")
    (child, order), *_ = to_replica(made.ask(asked("1"), 0.0))
    ids = answer_of(order)
    effects = made.tokens(child, order.request, 0, tuple(ids[:3]), text_of(ids[:3]), 0.1)
    assert [each.told["ids"] for each in effects if isinstance(each, ToClient)] == [ids[:3]]
    ((other, resumed),) = to_replica(made.lost(child, 0.2))
    assert other != child
    assert resumed.sent == tuple(ids[:3])
    # What the first one may still say is ignored.
    assert made.tokens(child, order.request, 3, tuple(ids[3:5]), "late", 0.3) == []
    made.tokens(other, resumed.request, 3, tuple(ids[3:]), text_of(ids[3:]), 0.3)
    end = ends(made.done(other, done(resumed), 0.4))["1"]
    assert (end["reason"], end["moves"], end["replica"]) == ("length", 1, other)
    assert not made.prompts


def test_no_two_attempts_have_the_same_name_at_a_replica() -> None:
    """Not those of a front that died in the middle, nor of a request that is asked again here."""
    names = []
    for made in (Front("x"), Front("y")):
        follow(made, target("a"))
        for _ in range(2):
            orders = to_replica(made.ask(asked("1", client=str(len(names))), 0.0))
            orders += to_replica(made.lost_peer("peer-a", 0.1))
            orders += to_replica(made.peer_back("peer-a", 0.2))
            names += [order.request for _, order in orders]
    assert len(names) >= 4
    assert len(set(names)) == len(names)


def test_how_soon_and_how_many_are_measured() -> None:
    made = front("a")
    for n, after_s in (("1", 0.25), ("2", 0.75)):
        (_, order), *_ = to_replica(made.ask(asked(n), 0.0))
        ids = tuple(answer_of(order))
        made.tokens("a", order.request, 0, ids[:3], text_of(ids[:3]), after_s)
        made.tokens("a", order.request, 3, ids[3:], text_of(ids[3:]), 1.0)
        made.done("a", done(order), 2 * after_s)
    made.ask(asked("begun elsewhere", sent=(1, 2)), 0.0)
    (_, order), *_ = to_replica(made.ask(asked("waits"), 0.0))
    told = made.figures.read([S, "serve-2"], {S: 3}, {S: 1}, passed_s=2.0)
    assert told[f"serve.{S}.first_token_s"] == Summary(0.25, 0.75, 0.5, 0.75, 2)
    assert told[f"serve.{S}.answer_s"] == Summary(0.5, 1.5, 1.0, 1.5, 2)
    rates = [told[f"serve.{S}.{name}_per_s"] for name in ("requests", "tokens")]
    assert rates == [1.0, 8.0]
    assert [told[f"serve.{S}.{name}"] for name in ("waiting", "answering")] == [1.0, 2.0]
    assert told["serve.serve-2.requests_per_s"] == 0.0
    assert all(find(name) for name in told)
    assert f"serve.{S}.answer_s" not in made.figures.read([S], {}, {}, 1.0)


def test_what_was_lost_on_the_way_is_made_again() -> None:
    made = front("a")
    (_, order), *_ = to_replica(made.ask(asked("1"), 0.0))
    effects = made.tokens("a", order.request, 2, (5,), "x", 0.1)
    assert to_replica(effects, Cancel) == [("a", Cancel(order.request))]
    ((_, again),) = to_replica(effects)
    assert (again.sent, again.request != order.request) == ((), True)


def test_a_prompt_that_ends_its_replicas_is_given_up() -> None:
    made = front("a", "b", "c", "d")
    (child, _), *_ = to_replica(made.ask(asked("1"), 0.0))
    for _ in range(DEATHS_MAX - 1):
        ((child, _),) = to_replica(made.lost(child, 0.1))
    assert "replicas ended while they answered" in ends(made.lost(child, 0.1))["1"]["error"]
    # That peers come and go is not its fault.
    follow(made, target("e"), now_s=0.2)
    made.ask(asked("2"), 0.2)
    for _ in range(DEATHS_MAX + 1):
        made.lost_peer("peer-e", 0.2)
        made.peer_back("peer-e", 0.2)
    assert "2" in made.prompts
    # Nor is the death of a replica that it was getting on with.
    for n in range(DEATHS_MAX + 2):
        follow(made, target(f"f{n}"), now_s=0.3)
        prompt = made.prompts["2"]
        assert prompt.target is not None
        made.tokens(prompt.target.child, prompt.wire_id, n, (7,), "x", 0.3)
        assert not ends(made.lost(prompt.target.child, 0.3))


def test_a_prompt_that_may_be_what_ends_replicas_takes_no_other_along() -> None:
    """Ten prompts beside one whose replica always ends: it alone is given up."""
    made = front(*(f"r{n}" for n in range(2)))
    effects = [effect for n in range(10) for effect in made.ask(asked(str(n)), 0.0)]
    effects += made.ask(asked("poison"), 0.0)
    ended: dict[str, Any] = {}
    for n in range(200):
        given = to_replica(effects)
        effects = []
        poisoned = {c for c, order in given if order.text == "prompt poison"}
        for child, order in given:
            if child in poisoned:
                continue
            ids = answer_of(order)
            at = len(order.sent)
            effects += made.tokens(child, order.request, at, tuple(ids[at:]), "x", 1.0 + n)
            effects += made.done(child, done(order), 1.0 + n)
        for child in poisoned:
            effects += made.lost(child, 1.0 + n)
            there = [*made.replicas.targets.values(), target(f"r{n + 2}")]
            effects += follow(made, *there, now_s=1.0 + n)
        ended |= ends(effects)
        if not made.prompts:
            break
    assert "replicas ended" in ended.pop("poison")["error"]
    assert {told["reason"] for told in ended.values()} == {"length"}
    assert len(ended) == 10


def test_a_full_queue_says_when_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "QUEUED_MAX", 5)
    made = Front()  # nobody can answer yet
    for n in range(5):
        assert not ends(made.ask(asked(str(n)), 0.0))
    end = ends(made.ask(asked("5"), 0.0))["5"]
    assert end["kind"] == "Busy"
    assert end["retry_s"] >= 1
    assert "busy, retry after" in end["error"]
    assert len(made.prompts) == 5
    # Those that wait are served in the order in which they came.
    given = to_replica(follow(made, target("a"), now_s=1.0))
    assert [order.text for _, order in given] == [f"prompt {n}" for n in range(5)]


def test_prompts_are_bounded_by_their_bytes_too() -> None:
    made = Front()
    text = "x" * 1_000_000
    told = [ends(made.ask(asked(str(n), text=text), 0.0)) for n in range(100)]
    assert sum(bool(each) for each in told) >= 30


def test_a_slow_reader_gives_up_its_place_then_the_answer() -> None:
    made = front("a")
    (_, order), *_ = to_replica(made.ask(asked("1", max_tokens=1_000), 0.0))
    at = 0
    left: list[Any] = []
    while not left:
        left = to_replica(made.tokens("a", order.request, at, (1,), "x", 0.0), Cancel)
        at += 1
    assert (at, left) == (routing.UNREAD_MAX + 1, [("a", Cancel(order.request))])
    assert made.read("c-1", "1", 10, 1.0) == []
    assert not to_replica(made.tick(1.0))
    ((_, resumed),) = to_replica(made.read("c-1", "1", at, 2.0))
    assert len(resumed.sent) == at
    made.tokens("a", resumed.request, at, (1,) * 300, "x", 2.0)
    for second in range(3, int(endings.HELD_MAX_S) + 2):
        assert "1" in made.prompts
        made.read("c-1", "1", at, float(second))  # it lives, and reads nothing
        made.tick(float(second))
    last = made.tick(endings.HELD_MAX_S + 2 + routing.TELL_EVERY_S)
    assert "read nothing" in ends(last)["1"]["error"]


def test_who_reads_slowly_all_the_time_is_not_given_up() -> None:
    made = front("a")
    (_, order), *_ = to_replica(made.ask(asked("1", max_tokens=1_000), 0.0))
    assert to_replica(made.tokens("a", order.request, 0, (1,) * 500, "x", 0.0), Cancel)
    for second in range(1, int(2 * endings.HELD_MAX_S)):
        made.read("c-1", "1", second, float(second))
        assert not ends(made.tick(float(second)))


def test_a_client_that_vanished_is_forgotten() -> None:
    made = front("a")
    (_, order), *_ = to_replica(made.ask(asked("1"), 0.0))
    assert "1" in made.prompts
    late_s = routing.SILENT_CLIENT_S
    made.replicas.heard("a", late_s)
    assert to_replica(made.tick(late_s), Cancel) == [("a", Cancel(order.request))]
    assert not made.prompts
    assert ends(made.read("c-1", "1", 0, 99.0))["1"]["lost"]


def test_time_outs_and_replicas_whose_peer_is_silent() -> None:
    made = front("a", "b")
    (child, order), *_ = to_replica(made.ask(asked("1", timeout_s=25.0), 0.0))
    for tenth in range(1, 60):
        assert not to_replica(made.tick(tenth / 10), (Cancel, Generate))
    ((other, _),) = to_replica(made.tick(routing.SILENT_PEER_S))
    assert other != child  # nothing was heard of it for so long
    assert made.tokens(child, order.request, 0, (1,), "late", 6.1) == []
    for tenth in range(70, 250):
        made.read("c-1", "1", 0, tenth / 10)
        made.replicas.heard(other, tenth / 10)
        assert not ends(made.tick(tenth / 10))
    assert "not answered within 25 s" in ends(made.tick(25.0))["1"]["error"]


def test_a_peer_that_slept_takes_nobody_for_silent() -> None:
    made = front("a", "b")
    made.tick(0.0)
    made.ask(asked("1"), 0.0)
    assert not to_replica(made.tick(14.0), (Cancel, Generate))


def test_a_replica_that_hangs_is_left_and_blamed_when_it_is_ended() -> None:
    made = front("a")
    (_, order), *_ = to_replica(made.ask(asked("1"), 0.0))
    assert not to_replica(made.stuck("a", 3.0), (Cancel, Generate))  # nobody else
    follow(made, target("a"), target("b"), now_s=3.5)
    effects = made.stuck("a", 4.0)
    assert to_replica(effects, Cancel) == [("a", Cancel(order.request))]
    assert [child for child, _ in to_replica(effects)] == ["b"]
    assert to_replica(made.ask(asked("2"), 4.1))[0][0] == "b"
    made.lost("a", 9.0)
    assert (made.prompts["1"].deaths, made.prompts["2"].deaths) == (1, 0)
    assert made.prompts["1"].moves == 1


def test_what_its_peer_never_got_is_given_again() -> None:
    made = front("a")
    (_, order), *_ = to_replica(made.ask(asked("1"), 0.0))
    (_, other), *_ = to_replica(made.ask(asked("2"), 0.0))
    effects = made.unknown([order.request, ".7.nobody"], 1.0)
    ((_, again),) = to_replica(effects)
    assert again.request != order.request
    assert not to_replica(made.unknown([order.request], 1.1))
    assert made.prompts["2"].wire_id == other.request


def test_ten_thousand_prompts_are_told_to_come_again() -> None:
    made = front("a", "b")
    busy = [n for n in range(10_000) if ends(made.ask(asked(str(n)), 0.0))]
    assert len(busy) == 10_000 - book.QUEUED_MAX - 2 * choice.AT_REPLICA_MAX


def test_a_tick_looks_at_a_bounded_number_and_all_are_told_that_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(book, "QUEUED_MAX", 10_000)
    made = front("a")
    for n in range(5_000):
        made.ask(asked(str(n)), 0.0)
    told: dict[str, float] = {}
    at_s = 0.0
    while len(told) < 5_000 - choice.AT_REPLICA_MAX and at_s < 5.0:
        at_s += 0.1
        waiting = [e for e in made.tick(at_s) if isinstance(e, ToClient)]
        assert len(waiting) <= routing.LOOKS_MAX
        told |= {each.request: at_s for each in waiting if each.told["kind"] == "waiting"}
    assert at_s < 5.0, "a client takes a peer for lost after 6 s"
    queue = made.book.queues[S]
    assert [queue.ahead(made.prompts[str(n)], at_s) for n in (64, 65, 999)] == [0, 1, 935]
    assert made.queued() == {S: 5_000 - choice.AT_REPLICA_MAX}


def test_asked_again_under_the_same_id_it_is_answered_once_to_whom_asked_last() -> None:
    made = front("a")
    (_, order), *_ = to_replica(made.ask(asked("1"), 0.0))
    effects = made.ask(asked("1", client="d", sent=(4, 5)), 0.1)
    assert to_replica(effects, Cancel) == [("a", Cancel(order.request))]
    assert [each.client for each in effects if isinstance(each, ToClient) and each.is_last] == [
        "c-1"
    ]
    ((_, resumed),) = to_replica(effects)
    assert resumed.sent == (4, 5)
    assert len(made.prompts) == 1


def test_who_gave_up_takes_no_memory() -> None:
    class Client:
        pass

    made = front("a")
    client = Client()
    gone = weakref.ref(client)
    made.ask(Asked(Generate("1", text="x"), S, client), 0.0)
    made.cancel("1", 0.0)
    del client
    assert gone() is None


def test_a_replica_that_nobody_knows_leaves_nothing_behind() -> None:
    made = front("a")
    for change in (made.stuck, made.unreached):
        change("who", 0.0)
    assert made.replicas.loads.keys() <= {"a"}


def test_a_busy_replica_is_left_alone_and_a_refused_prompt_told() -> None:
    made = front("a", "b")
    (child, order), *_ = to_replica(made.ask(asked("1"), 0.0))
    busy = Done(order.request, "error", 0, 0, error="busy", retry_s=3.0)
    ((other, again),) = to_replica(made.done(child, busy, 0.0))
    assert other != child
    refused = Done(again.request, "error", 9, 0, error="the prompt has 9 tokens: 8 may be")
    assert ends(made.done(other, refused, 0.1))["1"]["error"].startswith("the prompt has 9")


def begun(made: Front, request: str = "1", child: str = "") -> tuple[str, Any]:
    """A prompt that has its first id."""
    (child, order), *_ = to_replica(made.ask(asked(request), 0.0))
    (told, *_) = made.tokens(child, order.request, 0, (1,), "x", 0.1)
    assert isinstance(told, ToClient)
    return child, told.told


def test_an_answer_goes_on_with_the_same_weights_computed_alike_or_not_at_all() -> None:
    made = front("old", "alike", "alike2")
    made.replicas.load("alike").told = made.replicas.load("alike2").told = 9
    child, told = begun(made)
    assert (child, told["begun"]) == ("old", {"revision": 1, "digest": "d"})
    newer, other = target("new", revision=2), target("other", digest="e")
    follow(made, newer, other, target("alike"), target("alike2"), newest=2)
    ((resumed, _),) = to_replica(made.lost("old", 0.2, died=False))
    assert resumed == "alike"
    ((resumed, _),) = to_replica(made.lost("alike", 0.3))
    assert resumed == "alike2"
    # The last replica of these weights dies, and newer ones are rolled out: none will come.
    effects = made.lost("alike2", 0.4)
    assert not to_replica(effects)
    assert "were replaced" in ends(effects)["1"]["error"]
    assert not made.prompts


def test_who_computes_otherwise_is_waited_for_a_while_and_lets_others_pass() -> None:
    made = front("a")
    begun(made)
    follow(made, target("a"), target("b", digest="e"))
    assert not to_replica(made.lost("a", 1.0))
    ((child, _),) = to_replica(made.ask(asked("2"), 1.0))
    assert child == "b", "who has not begun goes there"
    for at_s in range(2, int(endings.NOBODY_MAX_S)):
        made.read("c-1", "1", 0, float(at_s))
        assert not to_replica(made.tick(float(at_s)))
    ((child, _),) = to_replica(follow(made, target("b", digest="e"), target("c"), now_s=60.0))
    assert child == "c"
    made.lost("c", 60.0)
    made.read("c-1", "1", 0, 119.0)
    assert "computes as the one that began" in ends(made.tick(121.0))["1"]["error"]


def test_who_asks_another_front_says_what_its_ids_come_from() -> None:
    made = front("a", "b")
    follow(made, target("a", digest="e"), target("b"))
    again = asked("1", sent=(4, 5), begun=Weights(1, "d"))
    made.replicas.load("b").told = 9
    ((child, resumed),) = to_replica(made.ask(again, 0.0))
    assert (child, resumed.sent) == ("b", (4, 5))


def test_what_is_served_no_more_is_answered_to_its_end_where_it_began() -> None:
    made = front("a")
    (_, order), *_ = to_replica(made.ask(asked("1", max_tokens=2), 0.0))
    for n in range(choice.AT_REPLICA_MAX + 1):
        made.ask(asked(f"w{n}"), 0.0)
    effects = made.follow([], {}, 0.1)
    told = ends(effects)
    assert told
    assert {each["error"] for each in told.values()} == {"it is served no more"}
    made.tokens("a", order.request, 0, (1, 2), "x", 0.2)
    assert ends(made.done("a", done(order), 0.3))["1"]["reason"] == "length"
    gone = ends(made.lost("a", 0.4, died=False))
    assert gone
    assert {each["error"] for each in gone.values()} == {"it is served no more"}
    assert not made.prompts
    assert made.book.bytes == 0


def test_a_peer_whose_link_was_broken_for_a_moment_is_used_again() -> None:
    """Without any news in the log."""
    made = front("a")
    made.ask(asked("1"), 0.0)
    assert not to_replica(made.lost_peer("peer-a", 0.1))
    ((child, _),) = to_replica(made.peer_back("peer-a", 0.2))
    assert child == "a"
    made.unreached("a", 0.3)
    assert not to_replica(made.tick(0.4))
    assert to_replica(made.tick(0.3 + routing.RETRY_S))


@dataclass
class _Storm:
    """Clients, replicas that die and lose messages, and the front between them, under one seed."""

    seed: int
    made: Front = field(default_factory=Front)
    now_s: float = 0.0
    count: int = 0

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.running: dict[str, dict[str, Generate]] = {}  # by child
        self.ids: dict[str, list[int]] = {}
        self.text: dict[str, str] = {}
        self.ended: dict[str, list[Any]] = {}
        self.orders: dict[str, Generate] = {}
        for _ in range(3):
            self.start()

    def start(self) -> None:
        self.count += 1
        self.running[f"r{self.count}"] = {}
        self.follow()

    def follow(self) -> None:
        self.do(follow(self.made, *map(target, self.running), now_s=self.now_s))

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, ToReplica):
                running = self.running.get(effect.target.child)
                match effect.order:
                    case Generate() as order if running is not None and self.rng.random() < 0.98:
                        running[order.request] = order
                    case Cancel(request) if running is not None:
                        running.pop(request, None)
            elif effect.is_last:
                self.ended.setdefault(effect.request, []).append(effect.told)
                self.text[effect.request] += effect.told.get("text", "")
            elif effect.told["kind"] == "tokens":
                assert effect.told["at"] == len(self.ids[effect.request])
                self.ids[effect.request] += effect.told["ids"]
                self.text[effect.request] += effect.told["text"]

    def ask(self) -> None:
        request = f"q{len(self.orders)}"
        sampling = Sampling(seed=self.rng.getrandbits(20))
        order = Generate(request, "p", max_tokens=self.rng.randint(1, 30), sampling=sampling)
        self.orders[request], self.ids[request], self.text[request] = order, [], ""
        self.do(self.made.ask(Asked(order, S, request), self.now_s))

    def decode(self, child: str) -> None:
        for wire_id, order in list(self.running.get(child, {}).items()):
            at = len(order.sent)
            if at == order.max_tokens:
                del self.running[child][wire_id]
                self.do(self.made.done(child, done(order), self.now_s))
                continue
            id_ = answer_of(order, at + 1)[-1]
            sent = (*order.sent, id_)
            self.running[child][wire_id] = Generate(
                wire_id, "p", max_tokens=order.max_tokens, sampling=order.sampling, sent=sent
            )
            if self.rng.random() < 0.99:  # else the message is lost
                told = (child, wire_id, at, (id_,), text_of([id_]), self.now_s)
                self.do(self.made.tokens(*told))

    def step(self) -> None:
        self.now_s += 0.05
        if len(self.orders) < 60 and self.rng.random() < 0.5:
            self.ask()
        if self.rng.random() < 0.02 and len(self.running) > 1:
            child = self.rng.choice(sorted(self.running))
            del self.running[child]
            self.do(self.made.lost(child, self.now_s, died=False))
            self.start()
        for child in list(self.running):
            self.decode(child)
        for request in list(self.made.prompts):
            self.do(self.made.read(request, request, len(self.ids[request]), self.now_s))
        self.do(self.made.tick(self.now_s))


@pytest.mark.parametrize("seed", range(8))
def test_in_a_storm_every_prompt_is_answered_once_and_as_if_undisturbed(seed: int) -> None:
    storm = _Storm(seed)
    for _ in range(4_000):
        storm.step()
        if len(storm.orders) == 60 and len(storm.ended) == 60:
            break
    for request, order in storm.orders.items():
        assert [told.get("reason") for told in storm.ended[request]] == ["length"], storm.seed
        assert storm.ids[request] == answer_of(order), storm.seed
        assert storm.text[request] == text_of(answer_of(order)), storm.seed
    assert not storm.made.prompts
    assert not storm.made.wire_ids()
    assert storm.made.book.bytes == 0
