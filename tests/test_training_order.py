"""Data order, ledger and stream framing: pure, no torch."""

import numpy as np
import pytest

from p2p.errors import Usage
from p2p.training import order
from p2p.training.ledger import Ledger
from p2p.training.spec import parse
from p2p.training.stream import FRAME_BYTES_MAX, Decoder, MalformedFrame, encode

SPEC = {"id": "j", "task": "digits", "task_class": "Digits"}


def schedule(samples: int = 103, size: int = 20, shards: int = 7) -> order.Schedule:
    return order.Schedule(5, samples, size, shards, 60)


def test_every_epoch_uses_every_sample_once_in_an_order_of_its_own() -> None:
    plan = schedule()
    assert plan.steps_per_epoch == 6
    orders = [order.permutation(plan, epoch) for epoch in range(3)]
    for permuted in orders:
        used = [order.batch(plan, permuted, step) for step in range(6)]
        assert [len(part) for part in used] == [20, 20, 20, 20, 20, 3]
        assert sorted(np.concatenate(used).tolist()) == list(range(103))
    assert not np.array_equal(orders[0], orders[1])


def test_data_order_never_changes_between_versions() -> None:
    # A change here makes every peer of another version compute other steps: it breaks the protocol.
    plan = order.Schedule(7, 10, 4, 2, 10)
    assert order.permutation(plan, 0).tolist() == [3, 1, 4, 8, 6, 0, 2, 5, 9, 7]
    assert order.seed_of(7, order.SHARD, 3, 1) == 8_750_985_785_302_271_763


@pytest.mark.parametrize("count", [0, 1, 5, 11, 12, 13, 60, 58])
def test_shards_are_contiguous_and_differ_by_one_at_most(count: int) -> None:
    slices = order.cut(count, 12)
    assert len(slices) == 12
    assert [lo for lo, _ in slices] == [0, *[hi for _, hi in slices[:-1]]]
    assert slices[-1][1] == count
    sizes = [hi - lo for lo, hi in slices]
    assert max(sizes) - min(sizes) <= 1


def test_epochs_and_the_job_end_where_they_should() -> None:
    plan = order.Schedule(0, 103, 20, 7, 15)
    assert [step for step in range(16) if plan.ends_epoch(step)] == [6, 12, 15]


def test_fingerprint_tells_samples_and_their_order() -> None:
    first = order.fingerprint(np.array([1, 2, 3]))
    assert first == order.fingerprint(np.array([1, 2, 3], np.int32).astype(np.int64))
    assert first != order.fingerprint(np.array([1, 3, 2]))
    assert float(first) == first


def test_ledger_counts_what_was_used() -> None:
    plan = schedule()
    ledger = Ledger(103)
    assert ledger.lines() == []
    for step in range(9):
        epoch = plan.epoch_of(step)
        ledger.record(epoch, order.batch(plan, order.permutation(plan, epoch), step))
    whole, running = ledger.lines()
    assert whole == {"epoch": 1, "samples": 103, "distinct": 103, "repeated": 0, "missing": 0}
    assert running == {"epoch": 2, "samples": 60, "distinct": 60, "repeated": 0, "missing": 0}
    assert ledger.samples == 163


def test_ledger_sees_repeated_and_missing_samples() -> None:
    ledger = Ledger(10)
    ledger.record(0, np.array([1, 2, 3]))
    ledger.record(0, np.array([3, 4, 4]))
    assert ledger.lines() == [
        {"epoch": 1, "samples": 6, "distinct": 4, "repeated": 2, "missing": 2}
    ]
    ledger.record(1, np.arange(10))
    assert ledger.lines()[0]["missing"] == 6


def test_ledger_travels() -> None:
    ledger = Ledger(50)
    ledger.record(0, np.arange(50))
    ledger.record(1, np.array([7, 9]))
    copy = Ledger.from_wire(50, ledger.to_wire())
    copy.record(1, np.array([7]))
    ledger.record(1, np.array([7]))
    assert copy.lines() == ledger.lines()
    with pytest.raises(ValueError, match="50 samples"):
        Ledger.from_wire(51, ledger.to_wire())


def test_frames_survive_any_cutting() -> None:
    messages = [{"kind": "a", "n": n, "data": b"x" * n} for n in (0, 1, 300)]
    stream = b"".join(encode(message) for message in messages)
    for size in (1, 3, 7, len(stream)):
        decoder = Decoder()
        parts = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert [m for part in parts for m in decoder.feed(part)] == messages


@pytest.mark.parametrize(
    "data",
    [
        (FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
        b"\0\0\0\1\xc1",
        b"\0\0\0\1\x05",
        b"\0\0\0\1\x80",
        b"\0\0\0\2\x92\x01",
    ],
)
def test_malformed_frames_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedFrame):
        list(Decoder().feed(data))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"shards": 0}, "shards"),
        ({"steps": -1}, "steps"),
        ({"epochs": 1.5}, "epochs"),
        ({"lr": 0.0}, "lr"),
        ({"codec": "fp4"}, "codec"),
        ({"strategy": "star"}, "strategy"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_job_is_named(change: dict[str, object], names: str) -> None:
    with pytest.raises(Usage, match=names):
        parse({**SPEC, **change})
    assert parse(SPEC).shards == 12
