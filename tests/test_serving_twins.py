"""Whole peers serve: placed by the leader, routed by any peer, on in-memory twins."""

from dataclasses import replace
from typing import Any

import pytest

from p2p.agent import CRASHES_MAX, FORGIVEN_EVERY_S, backoff_s
from p2p.control.services import revision_of
from p2p.replicas.agent import STUCK_S
from p2p.replicated.state import Checkpoint, Part, State
from p2p.serving.messages import Generate, Sampling
from tests.peer_fakes import spec
from tests.peer_twins import Twin, TwinCluster, grown
from tools.sim.replicas import answer_of, text_of

PART = {"number": 0, "path": "/data/3", "bytes": 10, "seconds": 0.1, "digest": "sha256:" + "a" * 64}


def trained(cluster: TwinCluster, step: int = 3, holders: str = "") -> None:
    """A job with a checkpoint, whose file all have, or these."""
    peer = cluster.leader.peer
    if not peer.state.jobs:
        peer.propose({"type": "job.submit", "name": "tales", "spec": spec(peers_max=1)})
        cluster.until(lambda: _is_running(peer.state), "it trains")
    made = {"step": step, "state_hash": f"sha256:{step}", "count": 1}
    told = {"type": "job.checkpoint", "job": "job-1", "generation": 1}
    sha = f"{step:064x}"
    part = {**PART, "path": f"/data/{step}", "digest": f"sha256:{sha}"}
    for name in holders or cluster.twins:
        cluster.files.files[name, sha] = b"x" * 10
    parts = [{**part, "peer": name} for name in holders or cluster.twins]
    peer.propose({**told, "checkpoint": {**made, "parts": parts}})
    cluster.until(lambda: peer.state.jobs["job-1"].checkpoint is not None, "a checkpoint")


def _is_running(state: State) -> bool:
    return any(job.state == "running" for job in state.jobs.values())


def ended(cluster: TwinCluster) -> None:
    cluster.leader.peer.propose({"type": "job.cancel", "job": "job-1"})


def serving(
    cluster: TwinCluster, replicas: int = 1, holders: str = "", **fields: Any
) -> dict[str, Any]:
    trained(cluster, holders=holders)
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


def host_of(cluster: TwinCluster, service: str = "serve-1", within_s: float = 15.0) -> Twin:
    told = lambda: cluster.leader.peer.state.services[service].replicas  # noqa: E731
    cluster.until(lambda: len(told()) == 1, "one replica answers", within_s)
    (replica,) = told()
    return cluster.twins[replica.peer]


def hosts_of(cluster: TwinCluster, service: str = "serve-1") -> set[str]:
    return {replica.peer for replica in cluster.leader.peer.state.services[service].replicas}


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


def test_many_streams_of_one_client_share_their_messages() -> None:
    cluster = grown(1)
    serving(cluster)
    traffic = cluster.twins["a"].peer.mail.traffic
    before = traffic.messages_sent
    streams = [prompt(cluster, "a", f"Once {n}", max_tokens=40) for n in range(4)]
    cluster.until(lambda: all(id_ in cluster.replies for id_ in streams), "answers")
    for n, stream in enumerate(streams):
        assert answered(cluster, stream)[0] == expected(f"Once {n}", 40)
    assert traffic.messages_sent - before < 2 * 40  # each of them alone would be 40


def killed_in_the_middle(cluster: TwinCluster, via: str, victim: str) -> tuple[list[int], str]:
    """Ask `via`, kill a peer after some ids, and see the answer to its end."""
    stream = prompt(cluster, via, "Once", max_tokens=60, seed=3, request="q")
    cluster.until(lambda: len(answered_so_far(cluster, stream)) >= 10, "some ids")
    cluster.kill(victim)
    for _ in range(40):
        if stream in cluster.replies:
            break
        cluster.run(0.5)
        reads(cluster, via, stream, "q")
    assert "ok" in cluster.replies[stream], cluster.replies.get(stream)
    assert cluster.replies[stream]["ok"]["moves"] == 1
    return answered(cluster, stream)


def answered_so_far(cluster: TwinCluster, stream: str) -> list[int]:
    return [id_ for part in cluster.parts.get(stream, []) for id_ in part.get("ids", [])]


def test_the_replicas_peer_is_killed_in_the_middle_of_an_answer() -> None:
    cluster = grown(3)
    serving(cluster)
    host = host_of(cluster)
    via = next(twin.name for twin in cluster.live() if twin is not host)
    ids, text = killed_in_the_middle(cluster, via, host.name)
    assert ids == expected("Once", 60, 3)
    assert text == text_of(ids)
    assert host_of(cluster) is not host
    kinds = [event.kind for event in cluster.leader.peer.state.events]
    assert kinds.index("replica-lost") > kinds.index("replica-ready")


def test_the_front_is_killed_and_the_client_goes_on_elsewhere() -> None:
    cluster = grown(3)
    serving(cluster)
    host = host_of(cluster)
    via, other = (twin.name for twin in cluster.live() if twin is not host)
    stream = prompt(cluster, via, "Once", max_tokens=60, seed=3, request="q")
    cluster.until(lambda: len(answered_so_far(cluster, stream)) >= 10, "some ids")
    cluster.kill(via)
    cluster.until(cluster.has_leader, "a leader")
    sent = answered_so_far(cluster, stream)
    again = prompt(cluster, other, "Once", max_tokens=60, seed=3, request="q", sent=sent)
    cluster.until(lambda: again in cluster.replies, "an answer")
    assert sent + answered_so_far(cluster, again) == expected("Once", 60, 3)
    cluster.run(8.0)  # the old front is not heard of any more
    assert host.peer.replicas._relay._streams == {}


def test_newer_weights_come_replica_by_replica_and_somebody_always_answers() -> None:
    cluster = grown(3)
    trained(cluster)
    told = cluster.ask("a", "serve", model="job:tales", replicas_min=2, replicas_max=2)["ok"]
    state = lambda: cluster.leader.peer.state.services[told["job"]]  # noqa: E731
    cluster.until(lambda: len(state().replicas) == 2, "two answer")
    trained(cluster, step=9)
    seen: set[tuple[int, ...]] = set()

    def is_rolled_out() -> bool:
        seen.add(tuple(sorted(replica.revision for replica in state().replicas)))
        return seen >= {(2, 2)}

    cluster.until(is_rolled_out, "new weights everywhere")
    assert seen == {(1, 1), (1, 2), (2, 2)}
    assert cluster.ask("b", "models")["ok"]["models"][0]["step"] == 9
    cluster.until(lambda: replicas_of(cluster) == 2, "the old ones are gone")


def revisions(cluster: TwinCluster) -> dict[str, int]:
    replicas = cluster.leader.peer.state.services["serve-1"].replicas
    return {replica.peer: replica.revision for replica in replicas}


def short_of_memory(cluster: TwinCluster, *peers: str) -> None:
    """Enough is free on these for one more replica as soon as none is there."""
    for name in peers:
        twin = cluster.twins[name]
        twin.free_bytes = None
        loads = lambda twin=twin: any(  # noqa: E731
            begin["kind"] == "load" for begin in twin.children.started.values()
        )
        twin.peer.replicas._free_bytes = lambda loads=loads: 50_000_000 if loads() else 70_000_000


def rolled_out(cluster: TwinCluster) -> list[dict[str, int]]:
    """Newer weights come; who answered with which ones meanwhile."""
    seen = [revisions(cluster)]
    trained(cluster, step=9)

    def is_over() -> bool:
        if revisions(cluster) != seen[-1]:
            seen.append(revisions(cluster))
        reason = cluster.leader.peer.state.services["serve-1"].reason
        return set(seen[-1].values()) == {2} or "older weights" in reason

    cluster.until(is_over, "new weights, or why not")
    cluster.run(1.0)
    assert all(seen), "somebody always answers"
    return [*seen, revisions(cluster)]


def test_where_memory_has_no_room_for_both_the_older_weights_go_first_if_others_answer() -> None:
    cluster = grown(3)
    trained(cluster)
    cluster.ask("a", "serve", model="job:tales", replicas_min=2, replicas_max=2)
    cluster.until(lambda: len(revisions_if_any(cluster)) == 2, "two answer")
    short_of_memory(cluster, *cluster.twins)
    seen = rolled_out(cluster)
    assert len(seen[-1]) == 2
    assert set(seen[-1].values()) == {2}
    texts = [event.text for event in cluster.leader.peer.state.events]
    assert any("makes room for the weights of step 9" in text for text in texts), texts


def revisions_if_any(cluster: TwinCluster) -> dict[str, int]:
    return revisions(cluster) if cluster.leader.peer.state.services else {}


def test_where_memory_has_no_room_for_both_another_peer_loads_them() -> None:
    cluster = grown(3)
    trained(cluster)
    cluster.ask("a", "serve", model="job:tales")
    cluster.until(lambda: len(revisions_if_any(cluster)) == 1, "it answers")
    (host,) = revisions(cluster)
    short_of_memory(cluster, host)
    assert list(rolled_out(cluster)[-1].values()) == [2]
    assert host not in revisions(cluster)


def test_where_memory_has_no_room_for_both_and_nobody_else_is_there_they_wait() -> None:
    cluster = grown(1, slots=2)
    trained(cluster)
    cluster.ask("a", "serve", model="job:tales")
    cluster.until(lambda: len(revisions_if_any(cluster)) == 1, "it answers")
    short_of_memory(cluster, "a")
    assert rolled_out(cluster)[-1] == {"a": 1}
    service = lambda: cluster.leader.peer.state.services["serve-1"]  # noqa: E731
    assert "older weights: those of step 9 wait, as on name-a tales needs" in service().reason
    assert service().state == "running"
    events = len(cluster.leader.peer.state.events)
    cluster.run(3.0)
    assert len(cluster.leader.peer.state.events) == events, "that is said once"
    cluster.twins["a"].peer.replicas._free_bytes = lambda: 200_000_000
    cluster.until(lambda: revisions(cluster) == {"a": 2}, "there is room now")
    assert service().reason == ""


def test_weights_that_cannot_be_loaded_leave_the_older_ones_where_they_are() -> None:
    cluster = grown(2, slots=2)
    trained(cluster)
    cluster.ask("a", "serve", model="job:tales", replicas_min=2, replicas_max=2)
    cluster.until(lambda: len(revisions_if_any(cluster)) == 2, "two answer")
    for twin in cluster.live():
        twin.replicas.fails = "it gives NaN or Inf instead of scores"
    assert rolled_out(cluster)[-1] == {"a": 1, "b": 1}
    service = lambda: cluster.leader.peer.state.services["serve-1"]  # noqa: E731
    cluster.until(lambda: "than those of step 9: name-a is set aside" in service().reason, "why")
    assert service().state == "running"
    assert "set aside: it gives NaN" in service().reason
    stream = prompt(cluster, "a", "Once", max_tokens=5)
    cluster.until(lambda: stream in cluster.replies, "an answer")
    for twin in cluster.live():
        twin.replicas.fails = ""
    trained(cluster, step=12)
    cluster.until(lambda: revisions(cluster) == {"a": 3, "b": 3}, "the next ones are sound")
    assert not service().excluded


@pytest.mark.parametrize("digest", ["", "sha256:0", "a" * 63 + "x"])
def test_a_checkpoint_without_hashes_is_not_rolled_out(digest: str) -> None:
    part = Part(0, "a", "/data/3", 10, 0.1, digest)
    assert revision_of(Checkpoint(3, "", 1, (part,))) is None
    sound = replace(part, digest="sha256:" + "a" * 64)
    assert revision_of(Checkpoint(3, "", 1, (sound,))) is not None


def test_a_long_reason_to_wait_is_told_once() -> None:
    cluster = grown(2, slots=2)
    trained(cluster)
    cluster.ask("a", "serve", model="job:tales", replicas_min=2, replicas_max=2)
    cluster.until(lambda: len(revisions_if_any(cluster)) == 2, "two answer")
    for twin in cluster.live():
        twin.replicas.fails = "it cannot be loaded: " + "why " * 70
    assert rolled_out(cluster)[-1] == {"a": 1, "b": 1}
    kinds = [event.kind for event in cluster.leader.peer.state.events]
    assert kinds.count("serve-waits") == 1


def test_who_was_set_aside_and_comes_back_as_a_new_process_is_tried_again() -> None:
    cluster = grown(3)
    cluster.twins["b"].free_bytes = cluster.twins["c"].free_bytes = 50_000_000
    trained(cluster)
    cluster.ask("a", "serve", model="job:tales", replicas_min=2, replicas_max=2)
    service = lambda: cluster.leader.peer.state.services["serve-1"]  # noqa: E731
    cluster.until(lambda: service().excluded.keys() == {"b", "c"}, "no room")
    disk = cluster.kill("c")
    cluster.until(lambda: cluster.leader.peer.state.members["c"].state == "dead", "it is dead")
    cluster.join("c", disk)
    cluster.until(lambda: "c" in service().members, "it answers")


def replicas_of(cluster: TwinCluster) -> int:
    begun = [begin for twin in cluster.live() for begin in twin.children.started.values()]
    return sum(begin["kind"] == "load" for begin in begun)


def test_prompts_that_wait_bring_replicas_and_silence_lets_them_go() -> None:
    cluster = grown(3)
    serving(cluster, replicas_max=3)
    state = lambda: cluster.leader.peer.state.services["serve-1"]  # noqa: E731
    asked = {}
    for n in range(30):
        stream = prompt(cluster, "b", f"t{n}", max_tokens=60)
        asked[stream] = f"q-t{n}-b"

    def all_read() -> None:
        for stream, request in asked.items():
            if stream not in cluster.replies:
                reads(cluster, "b", stream, request)

    for _ in range(40):
        cluster.run(0.5)
        all_read()
        if len(state().replicas) == 3 and asked.keys() <= cluster.replies.keys():
            break
    assert len(state().replicas) == 3
    for n, stream in enumerate(asked):
        assert answered(cluster, stream)[0] == expected(f"t{n}", 60)
    events = [event.text for event in cluster.leader.peer.state.events]
    assert any("prompts wait for 1 of up to 3 replicas" in text for text in events), events
    cluster.until(lambda: len(state().replicas) == 1, "silence", within_s=90.0)


def test_a_peer_without_slots_routes_and_loads_nothing() -> None:
    cluster = TwinCluster()
    cluster.found("a", slots=0)
    cluster.join("b", slots=2)
    cluster.join("c", slots=0)
    serving(cluster, holders="c")
    assert host_of(cluster).name == "b"
    begun = [b for b in host_of(cluster).children.started.values() if b["kind"] == "load"]
    assert [path[:9] for path in begun[0]["model"]["weights"]] == ["/content/"]
    for via in ("a", "c"):
        stream = prompt(cluster, via, "Once", max_tokens=5)
        cluster.until(lambda id_=stream: id_ in cluster.replies, "an answer")  # type: ignore[misc]
        assert answered(cluster, stream)[0] == expected("Once", 5)
    # Another model beside it, asked by name.
    told = cluster.ask("a", "serve", model="job:tales@3", name="other")["ok"]
    cluster.until(lambda: cluster.leader.peer.state.services[told["job"]].replicas, "it answers")
    assert "say which model" in cluster.ask("c", "generate", request="x", text="y")["error"]
    for model in ("tales", "other", "serve-1"):
        stream = prompt(cluster, "c", model, max_tokens=5, service=model, request=f"for-{model}")
        cluster.until(lambda id_=stream: id_ in cluster.replies, "an answer")  # type: ignore[misc]
        assert cluster.replies[stream]["ok"]["service"] == (
            "serve-2" if model == "other" else "serve-1"
        )
    # No slot is left for a third one; what it waits for is said, and a new peer is taken.
    cluster.ask("a", "serve", model="job:tales", name="third")
    third = lambda: cluster.leader.peer.state.services["serve-3"]  # noqa: E731
    cluster.until(lambda: "waits for another peer with a free slot" in third().reason, "a reason")
    cluster.join("d", slots=1)
    cluster.until(lambda: third().state == "running", "it runs")


def test_what_does_not_fit_is_refused_with_a_sentence() -> None:
    cluster = grown(2)
    cluster.twins["a"].free_bytes = cluster.twins["b"].free_bytes = 50_000_000
    trained(cluster)
    ended(cluster)
    told = cluster.ask("a", "serve", model="job:tales")["ok"]
    state = lambda: cluster.leader.peer.state.services[told["job"]]  # noqa: E731
    cluster.until(lambda: state().state == "failed", "it fails")
    assert "no peer is left: name-a is set aside: tales needs about 67 MB" in state().reason
    assert "50 MB are free" in state().reason


def test_files_are_served_with_their_task() -> None:
    cluster = grown(2)
    sha = "c" * 64
    cluster.files.files["b", sha] = b"x" * 10
    file = {"name": "00000", "sha256": sha, "bytes": 10, "path": "/models/m.safetensors"}
    found = {"files": [file], "job": "job-9", "task": "textgpt", "step": 7}
    asked = {"model": "/models/m.safetensors", "found": found, "peer": "b"}
    assert "give --task" in cluster.ask("a", "serve", **asked)["error"]
    told = cluster.ask("a", "serve", **asked, job={"task": "textgpt", "options": {"width": "8"}})
    service = cluster.leader.peer.state.services[told["ok"]["job"]]
    assert (service.name, service.revision.step, service.follows) == ("textgpt", 7, None)
    cluster.until(lambda: cluster.leader.peer.state.services["serve-1"].replicas, "it answers")
    begun = next(b for t in cluster.live() for b in t.children.started.values())
    assert begun["model"]["job"]["options"] == {"width": "8"}
    hf = {**found, "files": [{**file, "name": "config.json"}]}
    told = cluster.ask("a", "serve", model="hf:/models/tiny", found=hf, peer="b")["ok"]
    assert told["name"] == "tiny"
    cluster.until(lambda: cluster.leader.peer.state.services["serve-2"].replicas, "it answers")
    loads = [b["model"] for t in cluster.live() for b in t.children.started.values()]
    assert "/sources/serve-2-1" in [load["folder"] for load in loads]
    hf = {**found, "files": [{**file, "name": "../config.json"}]}
    assert "cannot be" in cluster.ask("a", "serve", model="hf:/x", found=hf, peer="b")["error"]
    assert "malformed" in cluster.ask("a", "serve", model="x", found={}, peer="b")["error"]


def test_what_cannot_be_served_is_said() -> None:
    cluster = grown(1)
    assert "there is no job" in cluster.ask("a", "serve", model="job:none")["error"]
    assert "is no model" in cluster.ask("a", "serve", model="nothing")["error"]
    assert "--replicas" in cluster.ask("a", "serve", model="job:x", replicas_min=0)["error"]
    trained(cluster)
    assert "no checkpoint of step 8" in cluster.ask("a", "serve", model="job:tales@8")["error"]
    for bad in ({"text": 5}, {}, {"text": "a", "tokens": [1]}, {"text": "a", "top_p": 7}):
        told = cluster.ask("a", "generate", request="r", **bad)
        assert told["exit_code"] == 2, told


def test_a_job_gives_up_a_peer_beyond_its_least_to_what_is_served() -> None:
    cluster = grown(3)
    cluster.leader.peer.propose({"type": "job.submit", "name": "tales", "spec": spec(peers_min=2)})
    job = lambda: cluster.leader.peer.state.jobs["job-1"]  # noqa: E731
    cluster.until(lambda: cluster.leader.peer.state.jobs, "it is submitted")
    cluster.until(lambda: len(job().members) == 3, "it trains on all")
    cluster.until(lambda: job().state == "running", "it runs")
    told = {"type": "job.checkpoint", "job": "job-1", "generation": job().generation.number}
    parts = [{**PART, "peer": name} for name in cluster.twins]
    for name in cluster.twins:
        cluster.files.files[name, "a" * 64] = b"x" * 10
    made = {"step": 3, "state_hash": "sha256:3", "count": 1, "parts": parts}
    cluster.leader.peer.propose({**told, "checkpoint": made})
    cluster.until(lambda: job().checkpoint, "a checkpoint")
    assert "ok" in cluster.ask("b", "serve", model="job:tales")
    assert "ok" in cluster.ask("b", "serve", model="job:tales", name="more")
    services = lambda: cluster.leader.peer.state.services  # noqa: E731
    cluster.until(lambda: services()["serve-1"].replicas, "it is served")
    cluster.until(lambda: "waits for another peer" in services()["serve-2"].reason, "it waits")
    assert len(job().assigned) == 2, "its least"


def test_a_replica_that_dies_alone_is_started_again_while_another_goes_on() -> None:
    cluster = grown(3)
    serving(cluster, replicas=2)
    before = {r.peer: r.child for r in cluster.leader.peer.state.services["serve-1"].replicas}
    via = next(name for name in cluster.twins if name not in before)
    stream = prompt(cluster, via, "Once", max_tokens=60, request="q")
    cluster.until(lambda: len(answered_so_far(cluster, stream)) >= 10, "some ids")
    routed = next(part for part in cluster.parts[stream] if part["kind"] == "routed")
    cluster.twins[routed["peer"]].children.kill(routed["replica"])
    cluster.until(lambda: stream in cluster.replies, "an answer")
    assert answered(cluster, stream)[0] == expected("Once", 60)
    assert cluster.replies[stream]["ok"]["moves"] == 1

    def is_back() -> bool:
        now = {r.peer: r.child for r in cluster.leader.peer.state.services["serve-1"].replicas}
        return now.keys() == before.keys() and now[routed["peer"]] != routed["replica"]

    cluster.until(is_back, "another child of that peer")
    detail = cluster.ask("a", "job", job="serve-1")["ok"]
    assert (detail["kind"], detail["generations"]) == ("serve", [])
    assert "ok" in cluster.ask("a", "cancel", job="serve-1")
    assert cluster.ask("a", "job", job="serve-1")["ok"]["state"] == "cancelled"
    assert cluster.ask("a", "job", job="tales")["ok"]["kind"] == "train"


def test_a_replica_that_answered_for_a_while_before_it_died_is_forgiven() -> None:
    cluster = grown(1)
    serving(cluster)
    seen: list[str] = []
    service = lambda: cluster.leader.peer.state.services["serve-1"]  # noqa: E731

    def is_back() -> bool:
        return any(replica.child not in seen for replica in service().replicas)

    for _ in range(CRASHES_MAX + 2):
        cluster.until(is_back, "another answers")
        seen.append(service().replicas[0].child)
        cluster.run(FORGIVEN_EVERY_S + 1.0)
        cluster.leader.children.kill(seen[-1])
    cluster.until(is_back, "it is not set aside")
    assert not service().excluded
    events = [e.text for e in cluster.leader.peer.state.events if e.kind == "replica-crashed"]
    assert events[0] == ("tales: the replica of name-a: its process ended; it starts again at once")


def test_a_replica_that_keeps_dying_is_restarted_later_and_later_then_set_aside() -> None:
    cluster = grown(2)
    serving(cluster)
    host = host_of(cluster)
    cluster.run(0.5)
    began_s, died_s = cluster.clock.now_s, []
    while host_of(cluster, within_s=40.0) is host:
        (child,) = [c for c, begin in host.children.started.items() if begin["kind"] == "load"]
        died_s.append(cluster.clock.now_s - began_s)
        host.children.kill(child)
        cluster.until(lambda child=child: child not in host.children.started, "its end")  # type: ignore[misc]
    assert len(died_s) == CRASHES_MAX
    assert died_s[-1] >= sum(map(backoff_s, range(CRASHES_MAX)))
    (why,) = cluster.leader.peer.state.services["serve-1"].excluded.values()
    assert "its replica died 6 times in a row" in why


def test_a_replica_that_hangs_is_left_soon_and_ended_later() -> None:
    cluster = grown(3)
    serving(cluster, replicas=2)
    via = next(name for name in cluster.twins if name not in hosts_of(cluster))
    stream = prompt(cluster, via, "Once", max_tokens=200, request="q")
    cluster.until(lambda: len(answered_so_far(cluster, stream)) >= 10, "some ids")
    routed = next(part for part in cluster.parts[stream] if part["kind"] == "routed")
    host = cluster.twins[routed["peer"]]
    host.replicas.hang(routed["replica"])
    had = len(answered_so_far(cluster, stream))
    took_s = cluster.until(lambda: len(answered_so_far(cluster, stream)) > had + 1, "more")
    assert took_s < STUCK_S + 1.0
    cluster.until(lambda: routed["replica"] in host.children.killed, "it is ended", within_s=12.0)
    kinds = lambda: [event.kind for event in cluster.leader.peer.state.events]  # noqa: E731
    cluster.until(lambda: "replica-crashed" in kinds(), "an event")
    text = next(e.text for e in cluster.leader.peer.state.events if e.kind == "replica-crashed")
    assert "it hung: no sign of life for 10 s; it starts again at once" in text
    for _ in range(40):
        reads(cluster, via, stream, "q")
        cluster.run(0.5)
    assert answered(cluster, stream)[0] == expected("Once", 200)
    assert len(hosts_of(cluster)) == 2


def test_a_peer_that_is_wanted_again_while_its_replica_still_answers_gets_another() -> None:
    cluster = grown(2)
    serving(cluster, replicas_max=2)
    service = lambda: cluster.leader.peer.state.services["serve-1"]  # noqa: E731

    def scale(target: int) -> None:
        told = {"type": "serve.scale", "service": "serve-1", "target": target, "reason": "a test"}
        cluster.leader.peer.propose(told)
        cluster.until(lambda: len(service().assigned) == target, "it is placed")
        cluster.until(cluster.agreed, "agreement")

    scale(2)
    cluster.until(lambda: len(service().replicas) == 2, "two answer")
    for n in range(4):
        prompt(cluster, "a", f"t{n}", max_tokens=200)
    cluster.until(lambda: all(t.peer.replicas.is_answering for t in cluster.live()), "both answer")
    scale(1)
    (host,) = cluster.twins.keys() - service().assigned.keys()
    assert cluster.twins[host].peer.replicas.is_answering
    scale(2)
    cluster.until(lambda: len(service().replicas) == 2, "two answer again")
    cluster.until(lambda: not cluster.twins[host].peer.replicas.is_answering, "all is answered")
    cluster.until(lambda: len(cluster.twins[host].children.started) == 1, "the first one ends")


def test_a_peer_that_leaves_answers_what_it_has_begun() -> None:
    cluster = grown(3)
    serving(cluster)
    host = host_of(cluster)
    via = next(twin.name for twin in cluster.live() if twin is not host)
    stream = prompt(cluster, via, "Once", max_tokens=60, request="q")
    cluster.until(lambda: len(answered_so_far(cluster, stream)) >= 10, "some ids")
    host.peer.leaving = True
    cluster.leader.peer.propose({"type": "member.leave", "peer": host.name})
    left = cluster.until(lambda: host.peer.has_left, "it may end")
    assert stream in cluster.replies, left
    assert cluster.replies[stream]["ok"]["moves"] == 0
    assert cluster.replies[stream]["ok"]["model"] == "tales"
    cluster.until(lambda: host_of(cluster) is not host, "another one answers")


def test_what_never_reached_its_replica_is_noticed_within_a_second() -> None:
    cluster = grown(3)
    serving(cluster)
    host = host_of(cluster)
    via = next(twin.name for twin in cluster.live() if twin is not host)
    stream = prompt(cluster, via, "Once", max_tokens=40, request="q")
    cluster.until(lambda: len(answered_so_far(cluster, stream)) >= 10, "some ids")
    relay = host.peer.replicas._relay
    (wire_id,) = relay._streams
    relay._forget(wire_id)  # as if the end of the answer were lost, too
    took_s = cluster.until(lambda: stream in cluster.replies, "an answer")
    assert took_s < 2.5
    assert answered(cluster, stream)[0] == expected("Once", 40)


def test_who_stops_a_prompt_leaves_nothing_behind() -> None:
    cluster = grown(2)
    serving(cluster)
    host = host_of(cluster)
    via = next(name for name in cluster.twins if name != host.name)
    streams = [prompt(cluster, via, f"t{n}", max_tokens=10_000) for n in range(6)]
    cluster.until(lambda: len(answered_so_far(cluster, streams[0])) >= 5, "some ids")
    cluster.ask(via, "generate_cancel", request=f"q-t0-{via}")
    cluster.until(lambda: streams[0] in cluster.replies, "its end")
    assert cluster.replies[streams[0]]["ok"]["reason"] == "cancelled"
    cluster.run(20.0)  # the others vanish: nobody says that they live
    assert not cluster.twins[via].peer.routing.front.prompts
    assert host.peer.replicas._relay._streams == {}
    generated = host.replicas.generated
    cluster.run(1.0)
    assert host.replicas.generated == generated
