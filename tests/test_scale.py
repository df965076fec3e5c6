"""Many peers: the traffic's bounds, and the simulated crash of one in ten."""

import pytest

from p2p.control.controller import SILENT_S
from p2p.reports import digest_every_s, report_every_s
from tools.scale.simulated import Many


@pytest.mark.parametrize("count", [1, 3, 50, 100, 300, 1_000])
def test_reports_and_digests_are_few_but_come_before_silence_counts(count: int) -> None:
    assert report_every_s(count) < SILENT_S
    assert count / digest_every_s(count) <= 200
    if count <= 300:
        assert count / report_every_s(count) <= 200


def test_a_tenth_crashes_at_once_and_the_rest_agree() -> None:
    many = Many(60, seed=3)
    many.until(many.is_quiet, "a leader whom all follow")
    links = sum(len(network.links) for network in many.networks.values())
    assert links == 5 * 59 + 55 * 5
    many.crash(6)
    key = many.put("after", b"the crash")
    assert many.until(lambda: many.is_answered(key), "a commit") < 1.0
    assert many.until(many.has_converged, "convergence") < 10.0
    assert all(peer.state.store.get("after") == b"the crash" for peer in many.peers.values())
