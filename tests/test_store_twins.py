"""The store in whole peers: applied once whatever dies, and never read stale."""

from functools import partial
from typing import Any

import pytest

from consensus.config import RaftConfig
from p2p.replicated.apply_sessions import Ticket
from tests.peer_twins import TwinCluster, grown


class Writer:
    """A client of one session that asks again, elsewhere, by the same number, until it is told."""

    def __init__(self, cluster: TwinCluster) -> None:
        self.cluster = cluster
        self.serial = 0
        self.session = self._opened()

    def _opened(self) -> str:
        return str(self.cluster.ask("a", "session")["ok"]["session"])

    def send(self, name: str, verb: str, **args: Any) -> str:
        """The request's id; `again` repeats the same."""
        ticket = Ticket(self.session, self.serial, self.serial)
        return self.cluster.send(name, verb, f"w{self.serial}", ticket, **args)

    def answer(self, verb: str, **args: Any) -> dict[str, Any]:
        """Asked of one live peer after the other until one says what became of it."""
        request = f"w{self.serial}"
        for attempt in range(60):
            names = sorted(self.cluster.twins)
            self.cluster.replies.pop(request, None)
            self.send(names[attempt % len(names)], verb, **args)
            for _ in range(50):
                self.cluster.step()
                if request in self.cluster.replies:
                    break
            told = self.cluster.replies.get(request, {"exit_code": 5})
            if told.get("exit_code") != 5:
                self.serial += 1
                return told
        raise AssertionError(f"{verb} was never answered (seed {self.cluster.seed})")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_asked_again_after_the_leaders_death_it_was_done_once(seed: int, steps: int) -> None:
    """A swap from absent can succeed once only: were it applied twice, the second would fail."""
    cluster = grown(3, seed)
    writer = Writer(cluster)
    old = cluster.leader.name
    via = sorted(cluster.twins)[seed % 3]
    swap = {"key": "k", "expected": None, "value": b"mine"}
    writer.send(via, "compare_and_set", **swap)
    for _ in range(steps):  # it got as far as that when the leader died
        cluster.hub.deliver()
        cluster.clock.advance(0.0)
    cluster.kill(old)
    assert writer.answer("compare_and_set", **swap)["ok"] == {"swapped": True}
    assert writer.answer("compare_and_set", **swap)["ok"] == {"swapped": False}
    cluster.until(cluster.agreed, "agreement")
    assert {twin.peer.state.store.get("k") for twin in cluster.live()} == {b"mine"}


def test_asked_again_after_a_thousand_others_it_was_done_once() -> None:
    cluster = grown(3)
    mine, others = Writer(cluster), Writer(cluster)
    first = mine.answer("put", key="k", value=b"mine")
    for number in range(1_100):
        ticket = Ticket(others.session, number, number)
        others.cluster.send("b", "put", f"o{number}", ticket, key="k", value=b"theirs")
    cluster.until(lambda: "o1099" in cluster.replies, "the others' answers")
    mine.serial -= 1
    cluster.kill(cluster.leader.name)
    cluster.until(cluster.has_leader, "a leader")
    assert mine.answer("put", key="k", value=b"mine") == first
    assert cluster.ask("b" if "b" in cluster.twins else "a", "get", key="k")["ok"] == {
        "value": b"theirs"
    }


def test_every_peer_reads_what_was_written_last() -> None:
    cluster = grown(3)
    writer = Writer(cluster)
    for number in range(12):
        value = f"{number}".encode()
        assert writer.answer("put", key="k", value=value)["ok"] == {}
        name = sorted(cluster.twins)[number % 3]
        assert cluster.ask(name, "get", key="k")["ok"] == {"value": value}
    assert writer.answer("delete", key="k")["ok"] == {"existed": True}
    assert cluster.ask("b", "get", key="k")["ok"] == {"value": None}


@pytest.mark.parametrize("seed", range(4))
def test_a_leader_that_was_cut_off_reads_nothing_stale(seed: int) -> None:
    cluster = grown(3, seed)
    writer = Writer(cluster)
    writer.answer("put", key="k", value=b"old")
    old = cluster.leader.name
    cluster.isolate(old)
    asked = [cluster.send(old, "get", f"g{number}", key="k") for number in range(3)]
    stale = cluster.send(old, "get", key="k", stale=True)
    cluster.until(
        lambda: any(t.peer.raft.is_leader for t in cluster.live() if t.name != old), "a new one"
    )
    asked += [cluster.send(old, "get", f"h{number}", key="k") for number in range(3)]
    lost = cluster.twins.pop(old)  # the others write; the old one goes on by itself
    writer.answer("put", key="k", value=b"new")
    cluster.twins[old] = lost
    asked += [cluster.send(old, "get", f"i{number}", key="k") for number in range(3)]
    cluster.until(lambda: all(each in cluster.replies for each in asked), "answers")
    assert {cluster.replies[each].get("exit_code") for each in asked} == {5}
    assert cluster.replies[stale]["ok"] == {"value": b"old"}
    cluster.heal()
    cluster.until(lambda: cluster.ask(old, "get", key="k").get("ok"), "it reads again")
    assert cluster.ask(old, "get", key="k")["ok"] == {"value": b"new"}


@pytest.mark.parametrize(
    ("verb", "args", "said"),
    [
        ("put", {"key": "", "value": b""}, "a key is a text of 1 to 256 characters"),
        ("put", {"key": "k", "value": "text"}, "at most 65536 bytes"),
        ("put", {"key": "k"}, "malformed request put"),
        ("delete", {"key": 7}, "a key is a text of 1 to 256 characters"),
        ("get", {"key": "k" * 257}, "a key is a text of 1 to 256 characters"),
        ("compare_and_set", {"key": "k", "expected": 1, "value": b""}, "at most 65536 bytes"),
        ("compare_and_set", {"key": "k", "expected": None, "value": 1}, "at most 65536 bytes"),
    ],
)
def test_what_cannot_be_stored_is_said_before_it_is_in_the_log(
    verb: str, args: dict[str, Any], said: str
) -> None:
    cluster = grown(1)
    before = cluster.leader.peer.raft.status.last_index
    answer = cluster.ask("a", verb, **args)
    assert answer["exit_code"] == 2
    assert said in answer["error"]
    assert cluster.leader.peer.raft.status.last_index == before


def test_a_full_log_says_busy_and_takes_it_later(monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(RaftConfig, max_uncommitted_bytes=2_000)
    monkeypatch.setattr("p2p.raft_host.RaftConfig", small)
    cluster = grown(3)
    leader = cluster.leader.name
    cluster.isolate(leader)
    for number in range(40):
        cluster.send(leader, "put", f"p{number}", key=f"{number}", value=b"v" * 100)
    cluster.until(lambda: "p39" in cluster.replies, "an answer")
    assert cluster.replies["p39"]["kind"] == "Busy"
    assert cluster.replies["p39"]["exit_code"] == 1
    assert "the cluster is busy" in cluster.replies["p39"]["error"]
    assert "p0" not in cluster.replies
    cluster.heal()
    cluster.until(lambda: "p0" in cluster.replies, "an answer to what was taken")
    assert cluster.ask(leader, "put", key="k", value=b"")["ok"] == {}
