"""Peers without trainers (`--slots 0`): joining, agreeing, leaving, refusing – as users see."""

import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import zmq

from consensus.wal import segment_name
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster, LocalPeer
from p2p.membership import DRAIN_S
from p2p.wire.keys import ClusterKey
from tests.cluster_fixtures import ask, follower_of, leader_of, p2pnode, settled, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
COORDINATION_ONLY = ("--slots", "0", "--allow-faults")


@pytest.fixture(scope="module")
def trio() -> Iterator[LocalCluster]:
    """Three peers for all tests: starting them is most of what a test would take."""
    with LocalCluster(COORDINATION_ONLY) as cluster:
        cluster.start()
        cluster.start_many(2)
        yield cluster


@pytest.fixture
def three(trio: LocalCluster) -> LocalCluster:
    """As a test finds them: three alive, all voting. (Peers that were killed stay in the list.)"""
    wait_for(trio, "status", settled(3))
    return trio


def firing(told: dict) -> set[str]:
    return {alert["id"] for alert in told["alerts"] if alert["resolved_at"] is None}


def running(cluster: LocalCluster) -> list[LocalPeer]:
    return [peer for peer in cluster.peers if peer.is_running]


def test_status_has_the_contract_s_keys(three: LocalCluster) -> None:
    told = p2pnode(three, "status", "--json").json
    assert set(told) == {"schema", "view_from", "age", "cluster", "peers", "jobs"}
    assert set(told["cluster"]) == {
        *("id", "name", "term", "leader", "quorum", "commit_index", "applied_index")
    }
    keys = "id name address host pid role state slots trainers replicas rss cpu_percent version"
    assert all(set(peer) == set(keys.split()) for peer in told["peers"])
    assert [peer["id"] for peer in told["peers"]] == sorted(peer.id for peer in running(three))


def test_what_was_measured_can_be_exported(three: LocalCluster, tmp_path: Path) -> None:
    other = follower_of(three)
    wait_for(
        three,
        "metrics",
        lambda told: len(told["series"]) == 4,  # the worst of both links comes a tick after them
        peer=other.id,
        names=["system.cpu_percent", "link.*.round_trip_s", "link.worst_round_trip_s"],
    )
    told = p2pnode(three, "export", "metrics", "--since", "5m").json
    assert told["schema"] == 1
    mine = {one["name"]: one for one in told["series"] if one["peer"] == other.id}
    assert {one["peer"] for one in told["series"]} == {peer.id for peer in running(three)}
    assert mine["process.rss_bytes"]["points"][-1]["last"] > 10e6
    assert 0 < mine["link.worst_round_trip_s"]["points"][-1]["min"] < 3.0
    file = tmp_path / "cpu.csv"
    names = ("--names", "system.cpu_percent", "--for-peer", other.id)
    ended = p2pnode(three, "export", "metrics", "--format", "csv", *names, "-o", str(file))
    assert (ended.code, ended.out) == (0, "")
    head, *rows = file.read_text().splitlines()
    assert head == "at,peer,name,unit,min,max,mean,last"
    assert all(row.split(",")[1:4] == [other.id, "system.cpu_percent", "percent"] for row in rows)
    happened = p2pnode(three, "export", "events", "--format", "csv").out
    assert happened.startswith("index,at,kind,severity,peer,job,text\n1,")
    assert p2pnode(three, "export", "events", "--since", "yesterday").code == 2


def test_a_killed_leader_is_replaced_and_comes_back(three: LocalCluster) -> None:
    leader = leader_of(three)
    leader.kill()
    status = wait_for(
        three, "status", lambda told: told["cluster"]["leader"] not in (None, leader.id)
    )
    assert status["cluster"]["quorum"]
    wait_for(
        three,
        "status",
        lambda told: any(p["id"] == leader.id and p["state"] == "dead" for p in told["peers"]),
    )
    told = wait_for(three, "alerts", lambda told: "quorum-margin" in firing(told))
    (alert,) = [each for each in told["alerts"] if each["id"] == "quorum-margin"]
    assert "one failure from losing quorum: 2 of 3 voters answer" in alert["text"]
    # Each peer looks once a second by itself: ask the one that has seen it.
    asked = ("--peer", next(p.address for p in running(three) if p.id == told["view_from"]))
    assert "one failure from losing quorum" in p2pnode(three, "alerts", *asked).out
    assert p2pnode(three, "health", "--json", *asked).json["cluster"]["score"] < 90
    assert "p2pnode add" in p2pnode(three, "insights", *asked).out
    (back,) = three.restart(leader)
    assert (back.id, back.address) == (leader.id, leader.address)
    wait_for(three, "status", settled(3))
    wait_for(three, "alerts", lambda told: "quorum-margin" not in firing(told))
    wait_for(three, "events", lambda told: told["events"], text="quorum-margin is over")
    over = p2pnode(three, "events", "--level", "warning", "--text", "alert").out
    assert "one failure from losing quorum" in over
    assert "is over" not in over


def test_all_killed_at_once_come_back_with_their_log(three: LocalCluster) -> None:
    job = ask(three, "submit", task="digits", peers_min=3)["job"]
    killed = running(three)
    for peer in killed:
        peer.kill()
    back = three.restart(*killed)
    assert [peer.id for peer in back] == [peer.id for peer in killed]
    ended = p2pnode(three, "jobs", "--json")
    assert [told["id"] for told in ended.json["jobs"]] == [job]


def test_without_a_majority_nothing_is_decided(three: LocalCluster) -> None:
    leader, follower = leader_of(three), follower_of(three)
    leader.kill()
    follower.kill()
    (survivor,) = running(three)
    status = wait_for(three, "status", lambda told: not told["cluster"]["quorum"])
    assert status["view_from"] == survivor.id
    ended = p2pnode(three, "submit", "digits")
    assert ended.code == 5
    assert "majority" in ended.err
    assert p2pnode(three, "health", "--check").code == 6
    began_s = time.monotonic()
    assert survivor.terminate() == 0
    assert time.monotonic() - began_s < DRAIN_S, "nobody is there who could agree to its leaving"
    three.restart(leader, follower, survivor)


def test_a_waiting_job_is_paused_resumed_and_cancelled(one: LocalCluster) -> None:
    job = p2pnode(one, "submit", "digits", "--json").json["job"]
    for verb, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert p2pnode(one, verb, job, "--json").json["state"] == state
    assert p2pnode(one, "resume", job).code == 1


def test_the_store(one: LocalCluster) -> None:
    assert p2pnode(one, "put", "colour", "grün").code == 0
    assert p2pnode(one, "get", "colour").out == "grün\n"
    told = p2pnode(one, "get", "colour", "--stale", "--json").json
    assert told == {"schema": 1, "key": "colour", "value": "grün"}
    assert p2pnode(one, "delete", "colour").code == 0
    absent = p2pnode(one, "get", "colour")
    assert (absent.code, absent.out) == (1, "")
    assert "there is no 'colour' in the store" in absent.err


def test_transfer_remove_and_faults(three: LocalCluster) -> None:
    target = follower_of(three)
    assert p2pnode(three, "transfer", target.address).code == 0
    assert leader_of(three).id == target.id
    assert p2pnode(three, "remove", target.id).code == 0
    assert target.process.wait(30) == 0
    wait_for(three, "status", lambda told: len(told["peers"]) == 2)
    with pytest.raises(P2PError, match="removed"):
        three.restart(target)
    victim = follower_of(three)
    assert p2pnode(three, "fault", "kill", victim.id).code == 0
    assert victim.process.wait(10) == -signal.SIGKILL
    three.restart(victim)
    three.start()


def test_a_paused_peer_is_noticed_and_returns(three: LocalCluster) -> None:
    follower = follower_of(three)
    assert p2pnode(three, "fault", "pause", follower.id, "--for", "4").code == 0

    def state(told: dict) -> str:
        return next(peer["state"] for peer in told["peers"] if peer["id"] == follower.id)

    wait_for(three, "status", lambda told: state(told) == "dead")
    wait_for(three, "status", lambda told: state(told) == "alive")


def test_ctrl_c_drains_the_leader(three: LocalCluster) -> None:
    leader = leader_of(three)
    leader.process.send_signal(signal.SIGINT)
    assert leader.process.wait(5) == 0
    status = wait_for(three, "status", lambda told: told["cluster"]["leader"])
    states = {peer["id"]: peer["state"] for peer in status["peers"]}
    assert states[leader.id] == "left"
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a job in the background
    try:
        (again,) = three.restart(leader)
    finally:
        signal.signal(signal.SIGINT, ours)
    assert signal.SIGINT in caught(again.process.pid)


def caught(pid: int) -> set[int]:
    """The signals that a process has handlers for."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition("SigCgt:")[2].split()[0], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


@pytest.fixture(scope="module")
def one() -> Iterator[LocalCluster]:
    with LocalCluster(("--slots", "0")) as cluster:
        cluster.start()
        yield cluster


BAD = [
    (["bogus"], 2, "invalid choice"),
    (["--slots", "-1"], 2, "--slots"),
    (["--listen", "127.0.0.1:http"], 2, "HOST:PORT"),
    (["status", "--wat"], 2, "unrecognized arguments: --wat"),
    (["submit", "digits", "--epochs", "1", "--steps", "2"], 2, "not allowed with"),
    (["submit", ":Task"], 2, "is not FILE.py:Class"),
    (["submit", "nosuch"], 2, "no built-in task"),
    (["submit", "digits", "--peers", "3:2"], 2, "--peers"),
    (["submit", "digits", "--shards", "0"], 2, "shards"),
    (["submit", "digits", "--strategy", "hope"], 2, "strategy"),
    (["submit", "missing.py:Task"], 2, "missing.py"),
    (["submit", "mnist", "--data", "/"], 2, "train-images-idx3-ubyte"),
    (["submit", "digits", "--set", "novalue"], 2, "key=value"),
    (["job", "nosuch"], 2, "no job"),
    (["set", "nosuch", "strategy=ring"], 2, "no job"),
    (["set", "nosuch", "strategy"], 2, "key=value"),
    (["remove", "nosuch"], 2, "not a peer"),
    (["status", "--peer", "127.0.0.1:1"], 3, "no peer answers"),
    (["--join", "127.0.0.1:1"], 3, "no peer answers"),
    (["fault", "kill", "{id}"], 4, "--allow-faults"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_bad_input(one: LocalCluster, arguments: list[str], code: int, said: str) -> None:
    ended = p2pnode(one, *[text.format(id=one.peers[0].id) for text in arguments])
    assert ended.code == code, ended
    assert said in ended.err
    assert ended.out == ""
    assert ended.err.startswith("p2pnode")
    assert ended.err.count("\n") == 1, "one sentence"
    assert one.peers[0].is_running


def test_a_port_in_use(one: LocalCluster) -> None:
    ended = p2pnode(one, "--listen", one.peers[0].address, "--data-dir", f"{one.folder}/other")
    assert ended.code == 1
    assert "is in use" in ended.err
    assert not os.path.exists(f"{one.folder}/other")


def test_a_data_directory_in_use(one: LocalCluster) -> None:
    ended = p2pnode(one, "--data-dir", one.peers[0].told["data_dir"])
    assert ended.code == 1
    assert "another peer" in ended.err


def test_a_foreign_token_is_refused(one: LocalCluster) -> None:
    stranger = {"P2P_TOKEN": ClusterKey.fresh().token}
    address = one.peers[0].address
    for arguments in (["status", "--peer", address], ["--join", address, "--data-dir", "/tmp/no"]):
        ended = p2pnode(one, *arguments, **stranger)
        assert ended.code == 4, ended
        assert "refused our key" in ended.err
    ended = p2pnode(one, "status", "--peer", address, P2P_RUNTIME_DIR=f"{one.folder}/nobody")
    assert ended.code == 4
    assert "no key" in ended.err


def test_a_data_directory_of_another_cluster(one: LocalCluster) -> None:
    with LocalCluster(("--slots", "0")) as other:
        peer = other.start()
        peer.terminate()
        ended = p2pnode(
            one, "--join", one.peers[0].address, "--data-dir", str(peer.told["data_dir"])
        )
        assert ended.code == 4
        assert "belongs to a peer of cluster" in ended.err


def test_a_stranger_cannot_make_the_peer_grow(one: LocalCluster) -> None:
    """Half-open connections, garbage, and good ZMTP without the key: refused, and forgotten."""
    peer = psutil.Process(one.peers[0].process.pid)
    host, _, port = one.peers[0].address.partition(":")
    before, log_before = peer.memory_info().rss, one.peers[0].log.stat().st_size
    for _ in range(200):
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + os.urandom(2000))
    context = zmq.Context()
    try:
        for _ in range(50):
            plain = context.socket(zmq.DEALER)
            plain.linger = 0
            plain.connect(f"tcp://{host}:{port}")
            plain.send(os.urandom(1000))
            plain.close()
    finally:
        context.destroy(linger=0)
    assert p2pnode(one, "status").code == 0
    assert peer.memory_info().rss - before < 4_000_000
    assert one.peers[0].log.stat().st_size == log_before


def test_a_full_disk_ends_the_peer_with_one_sentence() -> None:
    with LocalCluster(("--slots", "0")) as cluster:
        peer = cluster.start()
        # A file size limit makes the next write of the log fail as a full disk does.
        log = os.path.join(peer.told["data_dir"], segment_name(1))
        with open(log, "rb") as file:
            limit = len(file.read().rstrip(b"\0")) + 50  # behind that, space is reserved
        resource.prlimit(peer.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        ended = p2pnode(cluster, "submit", "digits")
        assert ended.code in (3, 5)
        assert peer.process.wait(10) == 1
        last = peer.log.read_text().strip().splitlines()[-1]
        assert segment_name(1) in last
        assert "Traceback" not in peer.log.read_text()
        assert cluster.restart(peer)[0].id == peer.id
        assert ask(cluster, "jobs")["jobs"] == []


def test_an_idle_peer_is_small(one: LocalCluster) -> None:
    """Not a bound on a figure that drifts, but on a mistake: torch or numpy in the peer."""
    maps = Path(f"/proc/{one.peers[0].process.pid}/maps").read_text()
    assert "libtorch" not in maps
    assert "numpy" not in maps


def test_who_was_added_goes_with_the_cluster_too() -> None:
    with LocalCluster(("--slots", "0")) as cluster:
        cluster.start()
        added = p2pnode(cluster, "add", "1", "--json")
        assert added.code == 0, added.err
        new = added.json["peers"][0]["id"]
        told = wait_for(cluster, "status", lambda told: len(told["peers"]) == 2)
        (pid,) = (peer["pid"] for peer in told["peers"] if peer["id"] == new)
        assert psutil.pid_exists(pid)
    # Its parent, the peer that was asked, is gone as well; whoever inherits the dead collects them.
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
