"""tools.chaos on a short run: real peers are killed under real clients, all promises hold."""

import pytest

from p2p.local_cluster import LocalCluster
from tools.chaos.__main__ import has_voters, main
from tools.chaos.aftermath import judge
from tools.chaos.crew import ARGUMENTS, Crew
from tools.chaos.workload import Workload
from tools.linearizability import Operation

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


def test_kills_break_no_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "6", "--seed", "3", "--faults", "kill"]) == 0, capsys.readouterr().out
    told = capsys.readouterr().out
    assert "linearizable" in told
    assert told.endswith("clean\n")


def test_a_broken_promise_and_a_dead_peer_are_told() -> None:
    """Without faults, but with a history that cannot be and an end that nobody asked for."""
    with LocalCluster(ARGUMENTS) as cluster:
        cluster.start()
        crew = Crew(cluster)
        crew.until(lambda: has_voters(crew), "it votes", 30.0)
        workload = Workload(lambda: crew.addresses, cluster.key, clients=1, seed=1)
        workload.history += [
            Operation("c1", "k1", "put", "x", None, 0.0, 1.0),
            Operation("c1", "k1", "get", None, None, 2.0, 3.0),
        ]
        judge(crew, workload, {"k1": "x"})
        assert len(crew.problems) == 2
        assert "no order" in crew.problems[0]
        assert "has None at k1, not 'x'" in crew.problems[1]
        cluster.peers[0].kill()
        crew.watch()
        assert "ended by itself with -9" in crew.problems[2]
