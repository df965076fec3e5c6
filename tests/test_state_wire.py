"""The state as bytes: complete, the same everywhere, in small pieces, and strict when read."""

import os
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.replicated.apply import apply
from p2p.replicated.reader import MalformedState, StateReader, from_chunks
from p2p.replicated.state import State
from p2p.replicated.store import Store
from p2p.replicated.wire import CHUNK_BYTES, to_chunks
from tests.log_strategies import commands
from tests.peer_fakes import applied, dataset, generation, replica_ready, running, served
from tools.sim.trainers import agreed_checkpoint

ROOT = Path(__file__).parent.parent


def full() -> State:
    """A state in which nothing is empty."""
    state = running("a", "b")
    fence = {"job": "job-1", "generation": 2}
    mark = {"step": 1, "epoch": 0, "samples": 12, "loss": 0.5, "metrics": {"accuracy": 0.9}}
    mark |= {"samples_per_second": 1.0, "state_hash": "sha256:x"}
    notices = [{"text": "t", "peer": "b"}, {"text": "u", "peer": None}]
    row = {"epoch": 0, "samples": 1, "distinct": 1, "repeated": 0, "missing": 0}
    codec = {"strategy": "ring", "codec": "int8", "options": {"a": "b"}, "auto": True}
    state = applied(
        state,
        {"type": "job.set", "job": "job-1", "method": codec, "after_revision": 0, "reason": "x"},
        {**generation(2, "a", "b"), "samples": {"epoch": 10, "step": 4}, "reached": 9},
        {"type": "job.mark", **fence, "mark": mark, "ledger": [row], "notices": notices},
        {"type": "job.checkpoint_ask", "job": "job-1"},
        agreed_checkpoint("a", 3, 2),
        {"type": "job.checkpoint_ask", "job": "job-1"},
        {"type": "job.checkpoint_failed", **fence, "step": 4, "error": "full", "peer": "a"},
        {"type": "job.crashed", "job": "job-1", "peer": "a", "child": "c", "reason": "r"},
        {"type": "member.remove", "peer": "b"},
        dataset(),
        served(),
        {**of_service("assign"), "peers": {"a": 1}, "excluded": {"c": "x"}, "reason": "y"},
        replica_ready(),
        {**of_service("crashed"), "peer": "a", "child": "r0", "reason": "r"},
        {**of_service("wait"), "reason": "z"},
        {"type": "alert.acknowledge", "alert": "no-quorum"},
        {"type": "session.open", "request": "r"},
        {"type": "store.put", "key": "k", "value": b"v", "session": ["1-r", 4, 2]},
    )
    assert not [name for name in _names(state) if getattr(state, name) in (None, (), {}, "", 0)]
    assert not [
        name
        for name in _names(state.jobs["job-1"])
        if name not in ("excluded", "origin")
        and getattr(state.jobs["job-1"], name) in (None, (), {}, "")
        and name != "reason"
    ]
    service = state.services["serve-1"]
    assert not [name for name in _names(service) if getattr(service, name) in (None, (), {}, "")]
    return state


def of_service(verb: str) -> dict[str, Any]:
    return {"type": f"serve.{verb}", "service": "serve-1"}


def _names(record: Any) -> list[str]:
    return [each.name for each in fields(record)]


def filled(keys: int, value_bytes: int) -> State:
    rng, store = Random(7), Store()
    for _ in range(keys):
        store = store.having(f"{rng.getrandbits(64):x}", rng.randbytes(value_bytes))
    return State(store=store)


def test_every_field_comes_back() -> None:
    state = full()
    assert from_chunks(to_chunks(state)) == state
    assert from_chunks(to_chunks(State())) == State()


@settings(max_examples=50, deadline=None)
@given(st.lists(commands(), max_size=12), st.lists(commands(), max_size=3))
def test_whatever_was_agreed_comes_back_and_goes_on_alike(log: list[Any], later: list[Any]) -> None:
    state, _ = apply(running("a", "b"), {"type": "session.open", "request": "r"})
    for command in log:
        state, _ = apply(state, msgpack.unpackb(msgpack.packb(command)))
    chunks = list(to_chunks(state))
    copy = from_chunks(chunks)
    assert repr(copy) == repr(state) or _without_maps(copy) == _without_maps(state)
    assert list(to_chunks(copy)) == chunks
    for command in later:
        state, said = apply(state, command)
        copy, copied = apply(copy, command)
        assert repr(said) == repr(copied)
        assert list(to_chunks(copy)) == list(to_chunks(state))


def _without_maps(state: State) -> tuple[str, Any]:
    """NaN is not equal to itself, and a map has no one order."""
    rest = replace(state, store=Store(), sessions=State().sessions)
    sessions = {id_: repr(sorted(told.answers.items())) for id_, told in state.sessions.items()}
    return repr(rest), (sorted(sessions.items()), list(state.store.items()), state.store.size)


def test_the_bytes_are_the_same_in_every_process() -> None:
    """Also where Python's hashes of strings, and so the orders of sets and maps, differ."""
    program = (
        "import hashlib; from tests.test_state_wire import *\n"
        "state = replace(full(), store=filled(300, 9).store)\n"
        "print(hashlib.sha256(b''.join(to_chunks(state))).hexdigest())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1


def test_it_is_written_and_read_in_small_pieces() -> None:
    """No step of it keeps a peer from its heartbeats; a later state does not change the picture."""
    state = filled(30_000, 64)
    chunks, took_s = [], []
    iterator = to_chunks(state)
    later = state
    while True:
        began_s = time.process_time()
        chunk = next(iterator, None)
        took_s.append(time.process_time() - began_s)
        if chunk is None:
            break
        chunks.append(chunk)
        later, _ = apply(later, {"type": "store.put", "key": f"new{len(chunks)}", "value": b""})
    assert {len(chunk) for chunk in chunks[:-1]} == {CHUNK_BYTES}
    # Not the longest: the test run's own garbage may be collected in any of them.
    assert sorted(took_s)[len(took_s) * 9 // 10] < 0.01
    assert from_chunks(chunks) == state


@pytest.mark.parametrize("cut", ["chunk", "byte", "end", "twice", "more"])
def test_what_is_not_whole_is_refused(cut: str) -> None:
    data = b"".join(to_chunks(full()))
    end = len(msgpack.packb(["end", 99]))
    wrong = {
        "chunk": b"",
        "byte": data[:-1],
        "end": data[:-end],
        "twice": data + data,
        "more": data + b"\x93",
    }
    with pytest.raises(MalformedState):
        from_chunks([wrong[cut]])


def test_chunks_may_be_cut_anywhere() -> None:
    data = b"".join(to_chunks(full()))
    reader = StateReader()
    for number in range(len(data)):
        reader.feed(data[number : number + 1])
    assert reader.finish() == full()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_raises_one_error_or_reads_as_some_state(data: st.DataObject) -> None:
    whole = bytearray(b"".join(to_chunks(full())))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        if data.draw(st.booleans()):
            whole[place] ^= 1 << data.draw(st.integers(0, 7))
        else:
            whole[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    try:
        state = from_chunks([bytes(whole)])
    except MalformedState:
        return
    assert isinstance(state, State)


RECORDS: list[list[Any]] = [
    ["state", 1, "c", "n", 0],
    ["member", "a", "n", "h:1", "h", 1, 1, "0", "i"],
    ["member", *["a"] * 10],
    ["removed", 7],
    ["job", "job-1"],
    ["seat", "a", "b", {}, 0, 1],
    ["mark", *range(8)],
    ["generation", 1, "r", None, None, 0, False],
    ["ledger", {}],
    ["method", "ring", "int8", {}, 1, False, "x"],
    ["set", "ring", "int8", {}, 1, False, "x"],
    ["answer", 1, {}],
    ["session", "s", "x", 0],
    ["session", 1, 0, 0],
    ["value", "k", "text"],
    ["value", "", b""],
    ["nonsense"],
    [["a"]],
    [],
    ["event"],
]


@pytest.mark.parametrize("record", RECORDS, ids=repr)
def test_records_that_do_not_fit_are_refused(record: list[Any]) -> None:
    records = [["state", 1, "c", "n", 0], record, ["end", 2]]
    with pytest.raises(MalformedState):
        from_chunks([b"".join(map(msgpack.packb, records))])


def test_another_format_is_named() -> None:
    with pytest.raises(MalformedState, match="format 2, this version reads 1"):
        from_chunks([msgpack.packb(["state", 2, "c", "n", 0])])
