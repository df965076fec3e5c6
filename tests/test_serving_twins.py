"""Whole peers serve: placed by the leader, routed by any peer, on in-memory twins."""

from typing import Any

from p2p.replicated.state import State
from p2p.serving.messages import Generate, Sampling
from tests.peer_fakes import spec
from tests.peer_twins import Twin, TwinCluster, grown
from tools.sim.replicas import answer_of, text_of

PART = {"number": 0, "path": "/data/3", "bytes": 10, "seconds": 0.1, "digest": "sha256:" + "a" * 64}
SHA = "a" * 64


def trained(cluster: TwinCluster, step: int = 3) -> None:
    """A job that has ended, with a checkpoint on the first peer."""
    peer = cluster.leader.peer
    if not peer.state.jobs:
        peer.propose({"type": "job.submit", "name": "tales", "spec": spec(peers_max=1)})
        cluster.until(lambda: _is_running(peer.state), "it trains")
    made = {"step": step, "state_hash": f"sha256:{step}", "count": 1}
    told = {"type": "job.checkpoint", "job": "job-1", "generation": 1}
    sha = f"{step:064x}"
    part = {**PART, "peer": "a", "path": f"/data/{step}", "digest": f"sha256:{sha}"}
    for twin in cluster.live():
        twin.peer.parts.content.hub.files[twin.peer.parts.content.peer, sha] = b"x" * 10
    peer.propose({**told, "checkpoint": {**made, "parts": [part]}})
    cluster.until(lambda: peer.state.jobs["job-1"].checkpoint is not None, "a checkpoint")


def _is_running(state: State) -> bool:
    return any(job.state == "running" for job in state.jobs.values())


def ended(cluster: TwinCluster) -> None:
    cluster.leader.peer.propose({"type": "job.cancel", "job": "job-1"})


def serving(cluster: TwinCluster, replicas: int = 1, **fields: Any) -> dict[str, Any]:
    trained(cluster)
    ended(cluster)
    bounds = {"replicas_min": replicas, "replicas_max": replicas, **fields}
    told = cluster.ask("a", "serve", model="job:tales", **bounds)["ok"]
    service = told["job"]
    cluster.until(
        lambda: len(cluster.leader.peer.state.services[service].replicas) >= replicas,
        "replicas answer",
    )
    cluster.until(cluster.agreed, "agreement")
    return dict(told)


def prompt(cluster: TwinCluster, via: str, text: str, **fields: Any) -> str:
    request = fields.pop("request", f"q-{text}-{via}")
    return cluster.send(via, "generate", request=request, text=text, **fields)


def reads(cluster: TwinCluster, via: str, stream: str, request: str) -> None:
    """The client says what it has."""
    ids = [id_ for part in cluster.parts.get(stream, []) for id_ in part.get("ids", [])]
    cluster.send(via, "generate_read", request=request, stream=stream, read=len(ids))


def answered(cluster: TwinCluster, stream: str) -> tuple[list[int], str]:
    ids = [id_ for part in cluster.parts.get(stream, []) for id_ in part.get("ids", [])]
    text = "".join(part.get("text", "") for part in cluster.parts.get(stream, []))
    return ids, text + str(cluster.replies[stream].get("ok", {}).get("text", ""))


def expected(text: str, max_tokens: int = 256, seed: int = 0) -> list[int]:
    return answer_of(Generate("r", text=text, max_tokens=max_tokens, sampling=Sampling(seed=seed)))


def host_of(cluster: TwinCluster, service: str = "serve-1") -> Twin:
    (replica,) = cluster.leader.peer.state.services[service].replicas
    return cluster.twins[replica.peer]


def test_a_served_model_answers_at_any_peer() -> None:
    cluster = grown(3)
    told = serving(cluster)
    assert told["name"] == "tales"
    status = cluster.ask("b", "status")["ok"]
    (job,) = [job for job in status["jobs"] if job["kind"] == "serve"]
    assert (job["state"], job["name"], job["step"]) == ("running", "tales", 3)
    assert [peer["replicas"] for peer in status["peers"]].count(1) == 1
    for via in ("a", "b", "c"):
        stream = prompt(cluster, via, "Once", max_tokens=20, seed=7)
        cluster.until(lambda id_=stream: id_ in cluster.replies, "an answer")  # type: ignore[misc]
        ids, text = answered(cluster, stream)
        assert ids == expected("Once", 20, 7)
        assert text == text_of(ids)
        end = cluster.replies[stream]["ok"]
        assert end["usage"] == {"prompt_tokens": 1, "completion_tokens": 20}
        assert end["model"] == "tales"
        assert end["peer_name"] == f"name-{host_of(cluster).name}"
    assert "ok" in cluster.ask("c", "unserve", model="tales")
    cluster.until(lambda: not any(t.children.started for t in cluster.live()), "all let go")
    assert "no model is served" in cluster.ask("a", "generate", request="x", text="y")["error"]
