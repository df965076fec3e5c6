"""A peer's surroundings: terminals that do not read, long paths, addresses, first starts."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from consensus.node import bootstrap
from p2p import runtime_dir
from p2p.errors import P2PError, Usage
from p2p.host import Options, where
from p2p.local_cluster import LocalCluster
from p2p.runtime_dir import RunningPeer
from p2p.storage import data_dir
from p2p.storage.data_dir import Remembered
from p2p.storage.disk import Folder
from p2p.storage.log_store import LogStore
from p2p.terminal import LINES_WAITING_MAX, Terminal
from p2p.wire.keys import ClusterKey
from p2p.wire.sockets import ZmqNetwork
from tests.cluster_fixtures import ask, settled, wait_for


def test_a_terminal_that_does_not_read_is_not_waited_for() -> None:
    reader, writer = os.pipe()
    terminal = Terminal(writer)
    for _ in range(2 * LINES_WAITING_MAX):
        terminal.say("x" * 1_000)
    terminal.close()
    os.close(reader)  # its thread's write fails now, and it ends
    terminal._thread.join(5.0)
    assert not terminal._thread.is_alive()
    os.close(writer)


def test_lines_come_in_order() -> None:
    reader, writer = os.pipe()
    terminal = Terminal(writer)
    terminal.say("one")
    terminal.say("two \udcff")
    terminal.close()
    assert os.read(reader, 100) == b"one\ntwo ?\n"
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("listen", "advertise", "address"),
    [
        ("127.0.0.1:0", None, None),
        ("0.0.0.0:0", "127.0.0.1:9", "127.0.0.1:9"),
        ("0.0.0.0:0", "localhost:9", "localhost:9"),
    ],
)
def test_trainers_bind_where_the_peer_does(
    listen: str, advertise: str | None, address: str | None
) -> None:
    network = ZmqNetwork(ClusterKey.fresh(), listen, advertise)
    assert network.bind_host == listen.partition(":")[0]
    assert address is None or network.address == address
    network.close()


@pytest.mark.parametrize("advertise", [None, "-x:1", "a b:1"])
def test_an_address_that_nobody_can_reach_is_refused(advertise: str | None) -> None:
    with pytest.raises(Usage, match="advertise"):
        ZmqNetwork(ClusterKey.fresh(), "0.0.0.0:0", advertise)


def test_a_runtime_folder_too_long_for_sockets_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2P_RUNTIME_DIR", str(tmp_path / ("x" * 100)))
    with pytest.raises(P2PError, match="P2P_RUNTIME_DIR"):
        runtime_dir.announce("0123456789ab", "127.0.0.1:1", "c", tmp_path / "token")


def test_a_zombie_is_no_running_peer() -> None:
    process = subprocess.Popen(["true"])
    made_s = psutil.Process(process.pid).create_time()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not RunningPeer("a", "127.0.0.1:1", "c", process.pid, made_s, "").is_running
    process.wait()


AWAY = Remembered("a", "a", "gate.example:9", "c", listen="0.0.0.0:7700")


@pytest.mark.parametrize(
    ("options", "known", "listen", "advertise"),
    [
        (Options(), None, "10.0.0.1:7700", None),
        (Options(listen="h:1", advertise="g:2"), None, "h:1", "g:2"),
        (Options(), Remembered("a", "a", "h:1", "c"), "h:1", None),
        (Options(), AWAY, "0.0.0.0:7700", "gate.example:9"),
        (Options(advertise="new:9"), AWAY, "0.0.0.0:7700", "new:9"),
        (Options(listen="h:1"), AWAY, "h:1", None),
    ],
)
def test_a_peer_comes_back_to_where_it_listened_not_to_what_it_advertised(
    options: Options, known: Remembered | None, listen: str, advertise: str | None
) -> None:
    assert where(options, known, "10.0.0.1:7700") == (listen, advertise)


@pytest.mark.processes
@pytest.mark.parametrize("wrote_its_log", [False, True])
def test_a_founder_killed_at_its_first_start_founds_at_its_second(wrote_its_log: bool) -> None:
    with LocalCluster() as cluster:
        folder = Folder(cluster.folder / "first")
        key = ClusterKey.fresh()
        data_dir.save_key(folder, key)
        who = Remembered("abc", "first", "127.0.0.1:0", key.cluster_id, founding=True)
        data_dir.remember(folder, who)
        if wrote_its_log:
            LogStore(folder).save(*bootstrap("abc"), must_sync=True)
        folder.close()
        peer = cluster.start("--slots", "0", data_dir=cluster.folder / "first")
        assert peer.told["cluster"]["id"] == key.cluster_id
        assert peer.told["cluster"]["name"]


@pytest.mark.processes
def test_a_peer_that_hung_while_it_was_removed_learns_of_it_and_ends() -> None:
    """Nobody talks to it any more, so it has to ask."""
    with LocalCluster(("--allow-faults", "--slots", "0")) as cluster:
        peers = [cluster.start(), *cluster.start_many(2)]
        wait_for(cluster, "status", lambda told: len(told["peers"]) == 3)
        leader = wait_for(cluster, "status", lambda told: told["cluster"]["leader"])
        hung = next(peer for peer in peers if peer.id != leader["cluster"]["leader"])
        hung.process.send_signal(signal.SIGSTOP)
        wait_for(cluster, "status", lambda told: _state(told, hung.id) == "dead")
        ask(cluster, "remove", peer=hung.id)
        # One of the two that are left gave up its vote: so the hung one had lost its own before.
        wait_for(cluster, "status", settled(2))
        hung.process.send_signal(signal.SIGCONT)
        assert hung.process.wait(25.0) in (0, 4)


@pytest.mark.processes
def test_a_voter_killed_while_it_is_removed_comes_back_to_hand_over() -> None:
    """It alone has a vote: if it were refused, nobody could ever lead this cluster again."""
    with LocalCluster(("--allow-faults", "--slots", "0")) as cluster:
        voter, heir = cluster.start(), cluster.start()
        wait_for(cluster, "status", lambda told: len(told["peers"]) == 2)
        heir.process.send_signal(signal.SIGSTOP)  # nobody can take over yet
        ask(cluster, "remove", peer=voter.id)
        voter.kill()
        heir.process.send_signal(signal.SIGCONT)
        try:
            (back,) = cluster.restart(voter)
        except P2PError as error:  # it handed over before it could say that it was in
            refused = str(error)
        else:
            refused = ""
            assert back.process.wait(25.0) == 0
        assert not refused or "was removed from the cluster" in refused
        told = wait_for(cluster, "status", lambda told: told["cluster"]["leader"] == heir.id)
        assert [row["id"] for row in told["peers"]] == [heir.id]


def _state(told: dict[str, Any], peer: str) -> str:
    return next(str(row["state"]) for row in told["peers"] if row["id"] == peer)
