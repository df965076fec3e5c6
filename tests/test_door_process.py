"""The door's process and its peer: the port, and who ends with whom."""

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import psutil
import pytest

from p2p.door.keeper import Door, given_token
from p2p.errors import P2PError, Usage
from p2p.local_cluster import LocalCluster
from tests.cluster_fixtures import p2pnode
from tests.serving_door import process_of

WITHIN_S = 60.0


def seconds() -> Iterator[None]:
    """So long something may take to come true."""
    until_s = time.monotonic() + WITHIN_S
    while time.monotonic() < until_s:
        yield
        time.sleep(0.02)
    raise AssertionError(f"not within {WITHIN_S:g} s")


def health(url: str) -> str:
    """What it says: nothing is served, so it is not well."""
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as told:
        straight.open(f"{url.removesuffix('/v1')}/health", timeout=WITHIN_S)
    with told.value as answer:
        return str(json.load(answer)["error"]["message"])


@pytest.mark.processes
def test_a_door_is_started_again_and_ends_with_its_peer() -> None:
    with LocalCluster(("--slots", "0", "--http", "0")) as cluster:
        peer = cluster.start()
        url = peer.told["http"]
        assert health(url).startswith("no model is served")
        first = process_of(peer)
        port = url.split("/")[2]
        other = p2pnode(cluster, "--http", port, "--data-dir", str(cluster.folder / "other"))
        assert (other.code, "Address already in use" in other.err) == (1, True)
        assert not (cluster.folder / "other").exists()
        first.kill()
        for _ in seconds():
            with contextlib.suppress(ValueError, psutil.NoSuchProcess):
                second = process_of(peer)
                if second != first:
                    break
        assert health(url).startswith("no model is served"), "who asks meanwhile waits"
        assert "the HTTP door ended (it was killed by signal 9" in peer.log.read_text()
        peer.kill()
        for _ in seconds():
            if not second.is_running():
                break


def test_nobody_else_comes_in_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Usage, match="lets other machines in: give them a token"):
        Door("0.0.0.0:0", None)
    with pytest.raises(Usage, match="--http 'x' is not"):
        Door("x", None)
    door = Door("[::1]:0", None)
    assert door.url.startswith("http://[::1]:")
    with pytest.raises(P2PError, match="Address already in use"):
        Door(door.url.split("/")[2], "t")
    door.close()
    monkeypatch.setattr("p2p.door.keeper.find_spec", lambda name: None)
    with pytest.raises(P2PError, match=r"pip install 'p2pnode\[http\]'"):
        Door("0", None)


def test_where_the_token_is_from(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.delenv("P2P_HTTP_TOKEN", raising=False)
    assert given_token(None) is None
    monkeypatch.setenv("P2P_HTTP_TOKEN", "from-the-environment")
    assert given_token("") == "from-the-environment"
