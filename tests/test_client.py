"""The client, over real sockets, against peers the test plays: what it repeats and promises."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from p2p.client import IN_FLIGHT_MAX, Client
from p2p.errors import (
    Busy,
    NoQuorum,
    OutcomeUnknown,
    P2PError,
    Refused,
    SessionExpired,
    Unreachable,
    Usage,
    to_wire,
)
from p2p.once import ONCE, REPEATABLE
from p2p.proposals import PROPOSED
from p2p.replicated.apply import apply
from p2p.replicated.apply_sessions import SESSIONS_MAX
from p2p.replicated.state import State
from p2p.wire.client_link import bodies_of
from p2p.wire.envelope import Envelope, Malformed, decode, encode
from p2p.wire.keys import ClusterKey
from p2p.wire.network import Listener, Route
from p2p.wire.sockets import BATCH_MAX, ZmqNetwork

Body = dict[str, Any]
SILENCE: Body = {}
COMMANDS = {
    "session": "session.open",
    "put": "store.put",
    "compare_and_set": "store.compare_and_set",
}
UNKNOWN = to_wire(OutcomeUnknown("the leader was lost meanwhile", NoQuorum.exit_code))
REFUSED = to_wire(Usage("no"))
BUSY = to_wire(Busy("the cluster is busy"))
EXPIRED = to_wire(SessionExpired("the session expired"))
PATIENCE_S = 60.0  # of the clients; no test lets it pass, see `skip`
FLOOD = 1_900  # requests, fewer than a socket holds
LEADERLESS = to_wire(NoQuorum("no leader"))


class Cluster:
    """Peers that share one state: `plays` says how each answers, by default as it should."""

    def __init__(self, peers: int) -> None:
        self.key = ClusterKey.fresh()
        self.state = State()
        self.asked: list[tuple[int, Body]] = []
        self.plays: list[Callable[[Body], Body | None]] = [self.carry_out] * peers
        self.networks: list[ZmqNetwork] = []
        self.route = Route()  # where the last request came from
        self.has_said_all = False
        self._stopped: set[int] = set()
        for number in range(peers):
            network = ZmqNetwork(self.key, "127.0.0.1:0", None)
            listener = Listener(self._listener(number), lambda peer, up: None)
            network.start(listener)
            self.networks.append(network)

    def _listener(self, number: int) -> Callable[[bytes, Route | None], None]:
        def on_message(data: bytes, route: Route | None) -> None:
            body = decode(data, self.key.cluster_id).body
            self.asked.append((number, body))
            assert route is not None
            self.route = route
            reply = self.plays[number](body)
            if reply:
                self.reply(number, route, body, reply)

        return on_message

    def reply(self, number: int, route: Route, body: Body, reply: Body) -> None:
        wrapped = reply if "error" in reply else {"ok": reply}
        body = {**wrapped, "id": body["id"]}
        envelope = Envelope(self.key.cluster_id, "peer", "", "reply", body)
        self.networks[number].reply(route, encode(envelope))

    def carry_out(self, body: Body) -> Body:
        if body["verb"] == "status":
            return {"peers": []}
        command = {"type": COMMANDS.get(body["verb"], body["verb"]), "request": body["id"]}
        if "session" in body:
            command["session"] = body["session"]
        self.state, answer = apply(self.state, {**command, **body["args"]})
        return dict(answer) or {"done": True}

    def opens(self, body: Body) -> Body | None:
        """Only sessions are answered."""
        return self.carry_out(body) if body["verb"] == "session" else self.is_silent(body)

    def is_silent(self, body: Body) -> None:
        skip(PATIENCE_S)

    def stop(self, number: int) -> None:
        if number not in self._stopped:
            self._stopped.add(number)
            self.networks[number].close()

    def addresses(self) -> list[str]:
        return [network.address for network in self.networks]


def test_a_stranger_where_one_of_ours_was_is_passed_over() -> None:
    """After a restart of the machine, another cluster's peer may have a dead one's port."""

    async def main() -> None:
        ours, theirs = Cluster(1), Cluster(1)
        (address,), (stranger,) = ours.addresses(), theirs.addresses()
        client = Client([stranger, address], ours.key, PATIENCE_S)
        alone = Client([stranger, stranger], ours.key, PATIENCE_S)
        try:
            assert await client.request("status") == {"peers": []}
            began_s = asyncio.get_running_loop().time()
            with pytest.raises(Refused, match="refused our key"):
                await alone.request("status")
            assert asyncio.get_running_loop().time() - began_s < PATIENCE_S
        finally:
            for each in (client, alone):
                await each.close()
            for cluster in (ours, theirs):
                cluster.stop(0)

    asyncio.run(main())


def skip(seconds: float) -> None:
    """The clock of the running loop jumps: whoever waits for so long has waited."""
    loop = asyncio.get_running_loop()
    time = loop.time
    loop.time = lambda: time() + seconds  # type: ignore[method-assign]


class Asking(Client):
    """A client whose time is up when it has heard all that a peer had to say, however slowly."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.addresses(), cluster.key, PATIENCE_S)
        self._cluster = cluster

    async def _ask_at(self, address: str, question: Any, deadline_s: float) -> Body:
        try:
            return await super()._ask_at(address, question, deadline_s)
        finally:
            if self._cluster.has_said_all:
                skip(PATIENCE_S)


def played(peers: int, story: Callable[[Cluster, Client], Awaitable[None]]) -> None:
    async def main() -> None:
        cluster = Cluster(peers)
        client = Asking(cluster)
        try:
            await story(cluster, client)
        finally:
            await client.close()
            for number in range(peers):
                cluster.stop(number)

    asyncio.run(main())


def test_a_lost_answer_is_asked_for_elsewhere_and_the_thing_done_once() -> None:
    async def story(cluster: Cluster, client: Client) -> None:
        def does_it_and_dies(body: Body) -> Body | None:
            answer = cluster.carry_out(body)
            if body["verb"] == "session":
                return answer
            asyncio.get_running_loop().call_soon(cluster.stop, 0)
            return None

        cluster.plays[0] = does_it_and_dies
        assert await client.compare_and_set("k", None, b"1") is True
        assert await client.compare_and_set("k", None, b"1") is False
        (_, first), (_, second) = [told for told in cluster.asked if "session" in told[1]][:2]
        assert first == second
        assert client.address == cluster.addresses()[1]

    played(2, story)


def test_many_requests_travel_side_by_side_and_each_gets_its_own_answer() -> None:
    async def story(cluster: Cluster, client: Client) -> None:
        held: list[Body] = []

        def holds_all(body: Body) -> Body | None:
            if body["verb"] == "session":
                return cluster.carry_out(body)
            held.append(body)
            return None

        cluster.plays[0] = holds_all
        count = IN_FLIGHT_MAX + 20
        asked = [
            asyncio.ensure_future(client.request("put", key=str(number), value=b""))
            for number in range(count)
        ]
        while len(held) < IN_FLIGHT_MAX:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        assert len(held) == IN_FLIGHT_MAX
        assert len(cluster.asked) == 1 + IN_FLIGHT_MAX  # and one session, however many want it
        cluster.plays[0] = lambda body: {"key": body["args"]["key"]}
        for body in reversed(held):
            cluster.reply(0, cluster.route, body, {"key": body["args"]["key"]})
        answers = await asyncio.gather(*asked)
        assert [answer["key"] for answer in answers] == [str(number) for number in range(count)]
        await client.put("one more", b"")
        assert cluster.asked[-1][1]["session"][1:] == [count, count]

    played(1, story)


ENDS: list[tuple[str, Callable[[Cluster], Any], type[P2PError], int]] = [
    ("silence", lambda cluster: cluster.opens, OutcomeUnknown, 3),
    ("no leader", lambda cluster: _session_then(cluster, LEADERLESS), NoQuorum, 5),
    ("leader lost", lambda cluster: _session_then(cluster, UNKNOWN), OutcomeUnknown, 5),
    ("lost, then none", lambda c: _session_then(c, UNKNOWN, LEADERLESS), OutcomeUnknown, 5),
    ("lost, then busy", lambda c: _session_then(c, UNKNOWN, BUSY), OutcomeUnknown, 1),
    ("busy", lambda cluster: _session_then(cluster, BUSY), Busy, 1),
    ("refused", lambda cluster: _session_then(cluster, REFUSED), Usage, 2),
    ("lost, then refused", lambda c: _session_then(c, UNKNOWN, REFUSED), OutcomeUnknown, 2),
    ("no session", lambda cluster: _says(cluster, LEADERLESS), NoQuorum, 5),
    ("no session, leader lost", lambda cluster: _says(cluster, UNKNOWN), NoQuorum, 5),
    ("no session answered", lambda cluster: cluster.is_silent, Unreachable, 3),
    ("expired", lambda c: _session_then(c, UNKNOWN, EXPIRED), SessionExpired, 1),
]


def _session_then(cluster: Cluster, *replies: Body) -> Callable[[Body], Body | None]:
    """Opens sessions; answers all else with these."""
    says = _says(cluster, *replies)
    return lambda body: cluster.carry_out(body) if body["verb"] == "session" else says(body)


def _says(cluster: Cluster, *replies: Body) -> Callable[[Body], Body]:
    """One after the other, and the last one again and again."""
    left = list(replies)

    def play(body: Body) -> Body:
        cluster.has_said_all = len(left) == 1
        return left[0] if cluster.has_said_all else left.pop(0)

    return play


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end[0])
def test_an_error_says_whether_it_may_have_been_done(
    end: tuple[str, Callable[[Cluster], Any], type[P2PError], int],
) -> None:
    name, play, kind, code = end

    async def story(cluster: Cluster, client: Client) -> None:
        if "session" not in name:
            await client.put("first", b"")
        cluster.plays[0] = play(cluster)
        with pytest.raises(P2PError) as caught:
            await client.put("k", b"v")
        assert isinstance(caught.value, kind)
        assert caught.value.exit_code == code
        assert isinstance(caught.value, OutcomeUnknown) == issubclass(kind, OutcomeUnknown)

    played(1, story)


def test_clients_know_of_every_command_whether_it_may_be_asked_again() -> None:
    assert set(PROPOSED) == ONCE | REPEATABLE


def test_a_read_that_gets_no_answer_is_no_unknown_outcome() -> None:
    async def story(cluster: Cluster, client: Client) -> None:
        cluster.plays[0] = cluster.opens
        with pytest.raises(Unreachable):
            await client.get("k")

    played(1, story)


def test_sessions_that_never_last_are_given_up_in_time() -> None:
    async def story(cluster: Cluster, client: Client) -> None:
        cluster.plays[0] = _session_then(cluster, EXPIRED, EXPIRED, EXPIRED)
        with pytest.raises(Busy):
            await client.put("k", b"v")
        assert [body["verb"] for _, body in cluster.asked].count("session") == 3

    played(1, story)


def test_what_no_session_guards_is_not_asked_for_twice() -> None:
    async def story(cluster: Cluster, client: Client) -> None:
        # So long one peer is waited for; there is time to ask the other.
        cluster.plays = [lambda body: skip(PATIENCE_S / 3), lambda body: {"done": True}]
        with pytest.raises(OutcomeUnknown):
            await client.request("add", count=2)
        assert [body["verb"] for _, body in cluster.asked].count("add") == 1

    played(2, story)


def test_what_is_busy_or_leaderless_is_asked_again_until_it_is_done() -> None:
    async def story(cluster: Cluster, client: Client) -> None:
        done = {"swapped": True}
        cluster.plays[0] = _session_then(cluster, BUSY, LEADERLESS, UNKNOWN, BUSY, done)
        assert await client.compare_and_set("k", None, b"v")
        asked = [body for _, body in cluster.asked if body["verb"] != "session"]
        assert len(asked) == 5
        assert len({(body["id"], *body["session"]) for body in asked}) == 1

    played(1, story)


def test_a_session_that_expired_between_two_requests_is_replaced_unseen() -> None:
    async def story(cluster: Cluster, client: Client) -> None:
        await client.put("k", b"1")
        for number in range(SESSIONS_MAX):
            cluster.state, _ = apply(
                cluster.state, {"type": "session.open", "request": str(number)}
            )
        await client.put("k", b"2")
        assert cluster.state.store.get("k") == b"2"
        assert [body["verb"] for _, body in cluster.asked].count("session") == 2

    played(1, story)


def test_what_no_peer_would_read_is_refused_at_once_and_the_connection_stays() -> None:
    async def story(cluster: Cluster, client: Client) -> None:
        await client.put("k", b"1")
        with pytest.raises(Usage, match=r"this one has 20\.0 MB: a request may have 16\.8 MB"):
            await client.put("k", bytes(20_000_000))
        with pytest.raises(Usage, match="characters: from 0 to"):
            async for _ in client.generate("x" * 20_000_000):
                pass
        link = client.link(client.address)
        await client.put("k", b"2")
        assert client.link(client.address) is link
        assert cluster.state.store.get("k") == b"2"

    played(1, story)


def test_several_answers_in_one_message_are_told_from_one() -> None:
    one, two = {"id": "a", "ok": {}}, {"id": "b", "part": {}}
    assert bodies_of(one) == [one]
    assert bodies_of({"several": [one, two]}) == [one, two]
    for bad in ("text", [one, 3], {"id": "a"}):
        with pytest.raises(Malformed):
            bodies_of({"several": bad})


def test_a_flood_of_requests_lets_the_peers_loop_do_other_things_in_between() -> None:
    """Every answer looks for more to read: there must not be a read for each of them."""

    async def story(cluster: Cluster, client: Client) -> None:
        until = asyncio.Event()
        heard, then = 0, list[int]()

        def answers(body: Body) -> Body:
            nonlocal heard
            heard += 1
            if heard == 1:
                time.sleep(0.3)  # meanwhile the others arrive
                asyncio.get_running_loop().call_later(0.0, lambda: then.append(heard))
            if heard == FLOOD:
                until.set()
            return {"done": True}

        cluster.plays[0] = answers
        link = client.link(client.address)
        await link.shake_hands(PATIENCE_S)
        for number in range(FLOOD):
            link.tell(client.id, {"id": str(number), "verb": "status", "args": {}})
        await asyncio.wait_for(until.wait(), PATIENCE_S)
        assert then[0] <= 2 * BATCH_MAX

    played(1, story)


def test_one_that_knows_one_peer_finds_the_others() -> None:
    async def story(cluster: Cluster, client: Client) -> None:
        def names_the_others(body: Body) -> Body:
            others = [{"address": each, "state": "alive"} for each in cluster.addresses()]
            return {**cluster.carry_out(body), "peers": others}

        cluster.plays = [names_the_others, cluster.carry_out]
        alone = Client(cluster.addresses()[:1], cluster.key)
        await alone.put("k", b"1")
        cluster.stop(0)
        await alone.put("k", b"2")
        assert cluster.state.store.get("k") == b"2"
        await alone.close()

    played(2, story)
