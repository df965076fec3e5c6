"""What a log may hold: every command, with fields replaced or missing, or anything at all."""

from typing import Any

from hypothesis import strategies as st

from tests.peer_fakes import (
    dataset,
    described,
    entered,
    generation,
    mark,
    replica_ready,
    served,
    spec,
)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.sampled_from(["a", "b", "job-1", "job-2", "1"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = [
    *("peer", "member", "incarnation", "reason", "job", "generation", "number", "seats", "peers"),
    *("excluded", "mark", "ledger", "checkpoint", "start_step", "stall_s", "steps_repeated"),
    *("name", "spec", "cluster_id", "term", "steps_total", "request", "at_s"),
    *("key", "value", "expected", "session", "method", "after_revision"),
    *("dataset", "alert", "alerts", "kind", "severity", "text"),
    *("service", "child", "revision", "after", "target", "model", "source", "follows", "device"),
    *("replicas_min", "replicas_max"),
]
METHODS: list[dict[str, Any]] = [
    {
        "method": {"strategy": "ring", "codec": codec, "options": {"a": "b"}, "auto": False},
        "after_revision": revision,
        "reason": "x",
    }
    for revision, codec in enumerate(("int8", "int16", "int32"))
]
SERVICE = {"service": "serve-1"}
VALID: list[dict[str, Any]] = [
    {"type": "member.join", "member": described("c")},
    {"type": "member.dead", "peer": "b", "incarnation": "1", "reason": "x"},
    {"type": "member.alive", "peer": "b"},
    {"type": "member.leave", "peer": "b"},
    {"type": "member.remove", "peer": "b"},
    {"type": "job.submit", "name": "n", "spec": spec()},
    {"type": "job.assign", "job": "job-1", "peers": ["a"], "reason": "x", "excluded": {"b": "y"}},
    generation(2, "a", "b"),
    entered(1, 3),
    mark(1, 7),
    *({"type": f"job.{verb}", "job": "job-1"} for verb in ("pause", "resume", "cancel")),
    {"type": "job.wait", "job": "job-1", "reason": "x"},
    *({"type": "job.set", "job": "job-1", **changed} for changed in METHODS),
    {"type": "job.finish", "job": "job-1", "generation": 1},
    {"type": "job.fail", "job": "job-1", "reason": "x"},
    dataset(),
    dataset("other", samples=None),
    {"type": "data.drop", "name": "digits"},
    served(),
    {**SERVICE, "type": "serve.assign", "peers": {"a": 1, "b": 1}, "reason": "x"},
    *(replica_ready(peer, child) for peer, child in (("a", "r1"), ("b", "r2"))),
    {**SERVICE, "type": "serve.lost", "child": "r1", "reason": "x"},
    {**SERVICE, "type": "serve.crashed", "peer": "a", "child": "r1", "reason": "x"},
    {**SERVICE, "type": "serve.scale", "target": 2, "reason": "x"},
    {**SERVICE, "type": "serve.wait", "reason": "x"},
    {**SERVICE, "type": "serve.revise", "after": 1, "revision": served()["revision"], "reason": ""},
    {**SERVICE, "type": "serve.fail", "reason": "x"},
    {**SERVICE, "type": "serve.stop"},
    {"type": "alert.acknowledge", "alert": "straggler/b"},
    {"type": "alert.forget", "alerts": ["straggler/b", "gone"]},
    {
        "type": "event.told",
        "kind": "alert",
        "severity": "error",
        "text": "t",
        "peer": "b",
        "job": None,
    },
    {"type": "session.open", "request": "r"},
    *({"type": "store.put", "key": key, "value": b"v" * len(key)} for key in ("k", "kk", "ü")),
    {"type": "store.delete", "key": "k"},
    {"type": "store.compare_and_set", "key": "k", "expected": b"v", "value": None},
    {"type": "store.compare_and_set", "key": "kk", "expected": None, "value": b"\0"},
    *(
        {"type": "store.put", "key": "s", "value": b"w", "session": ["1-r", serial, serial - 1]}
        for serial in (1, 2, 3)
    ),
]


@st.composite
def commands(draw: st.DrawFn) -> Any:
    """A valid command, most often with some fields replaced or missing; or anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(ANYTHING)
    command = dict(draw(st.sampled_from(VALID)))
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=3)):
        if draw(st.booleans()):
            command.pop(name, None)
        else:
            command[name] = draw(ANYTHING)
    return command
