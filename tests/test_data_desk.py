"""A peer's data before it trains: checked, fetched, refused, with the rules that follow from it."""

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p import data_view
from p2p.agent import DataVerdict, GiveUp, Local, Prepare, Start, plan
from p2p.cli import main
from p2p.clock import ManualClock
from p2p.content.contract import Fetched, MemoryContent, OnFetched, Source
from p2p.content.folder import ContentFolder
from p2p.control.controller import plan as leader_plan
from p2p.control.data import unlike
from p2p.data_desk import FETCH_FAILURES_MAX, DataDesk
from p2p.datasets.manifest import from_bytes
from p2p.datasets.worker import carry_out
from p2p.errors import P2PError, Usage
from p2p.fetching import Fetching
from p2p.replicated.state import Samples, State
from p2p.training.ledger import Ledger
from p2p.training.order import Schedule, batch, permutation, shard_of
from p2p.verbs.pictures import picture
from p2p.workers import MemoryWorkers
from tests.peer_fakes import (
    applied,
    dataset,
    entered,
    founded,
    generation,
    observed,
    report,
    trainer,
    with_job,
)


class DiskContent(MemoryContent):
    """Real folders; a fetch copies out of those of the other peers when it is delivered."""

    def __init__(self, homes: dict[str, Path], peer: str) -> None:
        super().__init__(peer=peer)
        self.homes = homes

    def find(self, sha256: str) -> Path | None:
        path = self.homes[self.peer] / "content" / sha256
        return path if path.is_file() else None

    def fetch(self, sha256: str, size: int, sources: Sequence[Source], then: OnFetched) -> None:
        def happen() -> None:
            for source in sources:
                there = self.homes[source.peer] / "content" / sha256
                if there.is_file():
                    ContentFolder(self.homes[self.peer] / "content").put(there.read_bytes())
            problem = "" if self.find(sha256) else "b does not have it"
            then(Fetched(sha256, self.find(sha256), problem))

        self.hub.waiting.append(happen)

    def drop(self, sha256: str) -> None:
        ContentFolder(self.homes[self.peer] / "content").remove(sha256)


class Desk:
    """One peer's desk with real workers' code, in steps."""

    def __init__(self, homes: dict[str, Path], peer: str) -> None:
        self.clock = ManualClock()
        self.content = DiskContent(homes, peer)
        self.workers = MemoryWorkers(lambda order: carry_out(json.loads(json.dumps(order))))
        fetching = Fetching(peer, self.content, self.clock, lambda: None)
        (homes[peer] / "datasets").mkdir(parents=True, exist_ok=True)
        self.desk = DataDesk(str(homes[peer]), self.content, fetching, self.workers, lambda: None)

    def settle(self, state: State) -> None:
        """Until nothing more comes about: plans, children and fetches take turns."""
        for _ in range(60):
            self.desk.follow(state)
            for job in state.jobs.values():
                wanted = "dataset" in job.spec and not job.is_final
                if wanted and job.id not in self.desk.verdicts:
                    self.desk.prepare(state, job)
            if not self.workers.work() + self.content.hub.deliver():
                self.clock.advance(5.0)

    def verdict(self, state: State, job: str = "job-1") -> DataVerdict:
        self.settle(state)
        return self.desk.verdicts[job]


@pytest.fixture
def homes(tmp_path: Path) -> dict[str, Path]:
    return {peer: tmp_path / peer for peer in "ab"}


def registered(desk: Desk, where: Path, **files: bytes) -> State:
    """A cluster of a and b that knows the folder at `where`, with a job that names it."""
    where.mkdir()
    for name, data in files.items():
        (where / f"{name}.txt").write_bytes(data)
    assert desk.desk.scan(str(where), None) is None
    desk.workers.work()
    found = desk.desk.scan(str(where), None)
    assert found is not None
    command = dataset("mine", **dict(found), where=str(where))
    named = {"name": "mine", "manifest": found["manifest"]}
    return with_job(applied(founded("a", "b"), command), "a", "b", dataset=named)


def test_a_copy_of_its_own_is_checked_and_offered(homes: dict[str, Path], tmp_path: Path) -> None:
    a = Desk(homes, "a")
    state = registered(a, tmp_path / "mine", one=b"1\n", two=b"2\n")
    assert a.verdict(state) == DataVerdict(str(tmp_path / "mine"))
    assert list(a.content.offered.values()) == [str(tmp_path / "mine")]
    assert a.desk.standing(state.datasets["mine"]) == "verified"
    assert a.desk.preview(state, "mine", 2) is None
    assert a.desk.preview(state, "mine", 2) is None
    a.workers.work()
    told = a.desk.preview(state, "mine", 2)
    assert told is not None
    assert [row["fields"]["line"] for row in told["rows"]] == ["1", "2"]
    with pytest.raises(Usage, match="there is no dataset 'x'"):
        a.desk.preview(state, "x", 2)
    with pytest.raises(P2PError, match=r"no checked copy of mine \(absent\)"):
        Desk(homes, "b").desk.preview(state, "mine", 2)
    assert a.desk.scan(str(tmp_path / "gone"), None) is None
    a.workers.work()
    with pytest.raises(P2PError, match="there is no"):
        a.desk.scan(str(tmp_path / "gone"), None)


def test_a_missing_copy_is_fetched_and_goes_with_the_dataset(
    homes: dict[str, Path], tmp_path: Path
) -> None:
    a, b = Desk(homes, "a"), Desk(homes, "b")
    many = {f"n{i}": b"%d" % i for i in range(70)}  # more than one round of fetches
    state = registered(a, tmp_path / "mine", **many)
    contents = ContentFolder(homes["a"] / "content")
    for data in many.values():
        contents.put(data)
    shutil.rmtree(tmp_path / "mine")  # from here on neither has it where it was
    path = b.verdict(state).path
    assert path is not None
    assert path.startswith(str(homes["b"] / "datasets"))
    assert sorted(file.name for file in Path(path).iterdir()) == sorted(f"{n}.txt" for n in many)
    assert (Path(path) / "n69.txt").read_bytes() == b"69"
    assert b.content.offered
    done = applied(state, {"type": "job.cancel", "job": "job-1"}, _drop("mine"))
    b.settle(done)
    assert b.desk.verdicts == {}
    assert not any((homes["b"] / "datasets").iterdir())
    assert not any((homes["b"] / "content").iterdir())
    assert not b.content.offered


def test_another_copy_is_refused_with_the_file_that_differs(
    homes: dict[str, Path], tmp_path: Path
) -> None:
    a = Desk(homes, "a")
    state = registered(a, tmp_path / "mine", one=b"1", two=b"2")
    assert a.verdict(state).problem == ""
    (tmp_path / "mine/two.txt").write_bytes(b"3")
    again = with_job(state, "a", dataset=state.jobs["job-1"].spec["dataset"])
    problem = a.verdict(again, "job-2").problem
    assert problem.startswith("its copy of mine differs: ")
    assert "mine/two.txt has other content than in the dataset" in problem
    assert a.desk.standing(state.datasets["mine"]) == problem


def test_what_nobody_has_is_given_up_with_the_reason(
    homes: dict[str, Path], tmp_path: Path
) -> None:
    a, b = Desk(homes, "a"), Desk(homes, "b")
    state = registered(a, tmp_path / "mine", one=b"1")
    shutil.rmtree(tmp_path / "mine")
    for _ in range(FETCH_FAILURES_MAX + 1):  # the manifest, a look, and failures
        b.desk.prepare(state, state.jobs["job-1"])
        b.workers.work()
        b.content.hub.deliver()
        b.clock.advance(60.0)
    standing = b.desk.standing(state.datasets["mine"])
    assert standing == "fetching, so far in vain: b does not have it"
    problem = b.verdict(state).problem
    assert problem == "cannot get dataset mine: b does not have it"


def test_a_dataset_that_became_another_is_refused(homes: dict[str, Path]) -> None:
    b = Desk(homes, "b")
    named = {"name": "mine", "manifest": "cd" * 32}
    state = with_job(applied(founded("a", "b"), dataset("mine")), "b", dataset=named)
    assert b.verdict(state).problem == "dataset mine is not registered as it was"


def test_a_manifest_from_another_peer_cannot_lead_elsewhere(tmp_path: Path) -> None:
    bad = f"p2p-manifest 1 folder\n{'ab' * 32} 1 ../../evil\n".encode()
    content = ContentFolder(tmp_path / "content")
    order = {"kind": "place", "where": "/none", "content": str(content.path)}
    order |= {"manifest": str(content.path / content.put(bad)), "target": str(tmp_path / "t")}
    assert "is not the name of a file inside a dataset" in carry_out(order)["error"]
    with pytest.raises(Usage):
        from_bytes(bad)


def _drop(name: str) -> dict[str, Any]:
    return {"type": "data.drop", "name": name}


# -- rules ----------------------------------------------------------------------------------------


def actions(data: dict[str, DataVerdict]) -> list[Any]:
    named = {"name": "mine", "manifest": "ab" * 32}
    state = with_job(founded("a"), "a", dataset=named)
    return plan(state, Local("a", 1.0, False, True, {}, {}, data=data))


def test_the_agent_starts_no_trainer_before_its_data_was_checked() -> None:
    (prepare,) = actions({})
    assert isinstance(prepare, Prepare)
    (give_up,) = actions({"job-1": DataVerdict(problem="it differs")})
    assert give_up == GiveUp("job-1", "it differs")
    (start,) = actions({"job-1": DataVerdict("/data")})
    assert isinstance(start, Start)
    assert start.data == "/data"


def test_who_has_data_of_another_length_is_set_aside() -> None:
    def ready(peer: str, samples: int | None) -> Any:
        told = {"endpoints": {}, "steps_total": 1, "train_samples": samples}
        return trainer(peer, ready=told)

    names = {peer: f"name-{peer}" for peer in "abc"}
    job = with_job(founded("a", "b", "c"), "a", "b", "c").jobs["job-1"]
    same = {peer: ready(peer, 10) for peer in "ab"}
    assert unlike(job, names, {**same, "c": ready("c", None)}, True) is None
    assert unlike(job, names, {"c": ready("c", 11)}, False) is None
    # One has not told: whose data is right cannot be said yet.
    assert unlike(job, names, {"a": ready("a", 10), "c": ready("c", 11)}, False) == []
    (told,) = unlike(job, names, {**same, "c": ready("c", 11)}, False) or ()
    assert told["excluded"] == {
        "c": "name-c is set aside: its data has 11 training samples, that of the others 10"
    }
    (told,) = unlike(job, names, {"a": ready("a", 10), "c": ready("c", 11)}, True) or ()
    assert (told["type"], told["reason"]) == (
        "job.fail",
        "the peers' data differs: 10 on name-a, 11 on name-c training samples; give all of them "
        "the same files, or `p2pnode data register` them",
    )
    begun = applied(
        with_job(founded("a", "b"), "a", "b"),
        {**generation(1, "a", "b"), "samples": {"epoch": 11, "step": 4}},
    ).jobs["job-1"]
    assert begun.samples == Samples(11, 4)
    (told,) = unlike(begun, names, {"a": ready("a", 10), "b": ready("b", 11)}, False) or ()
    assert list(told["excluded"]) == ["a"]  # the job has begun with the data of b


def test_who_differs_waits_for_a_third_to_decide() -> None:
    def ready(peer: str, samples: int) -> Any:
        told = {"endpoints": {"tcp": peer}, "steps_total": 1, "train_samples": samples}
        return trainer(peer, ready=told)

    state = with_job(founded("a", "b", "c"), "a", "b", "c")
    odd, third = report("a", ready("a", 9)), report("c")
    other = report("b", ready("b", 10))
    first = {"ready_s": {"child-a": 100.0, "child-b": 100.0}}

    def planned(seconds: float, *reports: Any) -> list[str]:
        seen = observed(*reports, now_s=100.0 + seconds, **first)
        return [told["type"] for told in leader_plan(state, seen)]

    assert planned(59.0, odd, other, third) == []
    assert planned(60.0, odd, other, third) == ["job.fail"]
    assert planned(1.0, odd, other, report("c", ready("c", 10))) == ["job.assign"]


# -- who has which samples ------------------------------------------------------------------------

SIZES = st.tuples(st.integers(1, 60), st.integers(1, 20), st.integers(1, 9))


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 2**32), st.integers(1, 4))
def test_shards_are_those_that_trainers_compute(
    sizes: tuple[int, int, int], seed: int, peers: int
) -> None:
    """Over an epoch, the short last batch too, the ranges are all its samples once."""
    samples, size, shards = sizes
    names = [chr(97 + i) for i in range(min(peers, shards))]
    per_epoch = -(-samples // size)
    schedule = Schedule(seed, samples, size, shards, 2 * per_epoch)
    base = with_job(founded(*names), *names, shards=shards)
    formed = generation(1, *names, shards=shards)
    bounds = [shards * rank // len(names) for rank in range(len(names) + 1)]
    for rank, seat in enumerate(formed["seats"]):
        seat |= {"first_shard": bounds[rank], "last_shard": bounds[rank + 1]}
    formed |= {"samples": {"epoch": samples, "step": size}, "steps_total": 2 * per_epoch}
    state = applied(base, formed, entered(1))
    order, used = permutation(schedule, 0), []
    for step in range(per_epoch):
        at = {"job-1": {"generation": 1, "step": step, "epoch": 1, "samples": 0}}
        vitals = {"a": data_view.Vitals(trainers=at)}
        told = data_view.shards(state, state.jobs["job-1"], vitals)
        for row in told["peers"]:
            first, last = row["samples"]
            mine = [
                shard_of([batch(schedule, order, step)], s, shards) for s in range(*row["shards"])
            ]
            assert order[first:last].tolist() == np.concatenate([*mine, order[:0]]).tolist()
            used += order[first:last].tolist()
    assert sorted(used) == list(range(samples))


def test_a_job_without_a_generation_has_no_shards_yet() -> None:
    state = with_job(founded("a"), "a")
    with pytest.raises(P2PError, match="run has no shards yet: it is starting"):
        data_view.shards(state, state.jobs["job-1"], {})


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(1, 3), st.integers(0, 2**32))
def test_the_ledger_is_exact_over_any_storm(
    sizes: tuple[int, int, int], epochs: int, seed: int
) -> None:
    """Generations come and go at every step, with any shards for anybody; rounds are lost before
    they are applied and are repeated; a successor goes on with the ledger as bytes.
    """
    samples, size, shards = sizes
    per_epoch, rng = -(-samples // size), random.Random(seed)
    schedule = Schedule(seed, samples, size, shards, epochs * per_epoch)
    ledger, step = Ledger(samples), 0
    while step < schedule.steps_total:
        epoch = schedule.epoch_of(step)
        wanted = batch(schedule, permutation(schedule, epoch), step)
        cuts = sorted(rng.choices(range(shards + 1), k=rng.randrange(4)))
        ranges = zip([0, *cuts], [*cuts, shards], strict=True)
        computed = [shard_of([wanted], s, shards) for lo, hi in ranges for s in range(lo, hi)]
        assert np.concatenate(computed).tolist() == wanted.tolist()
        if rng.random() < 0.3:
            continue  # somebody died: nothing was applied
        if rng.random() < 0.2:  # every trainer is a new one
            ledger = Ledger.from_wire(samples, json.loads(json.dumps(ledger.to_wire())))
        ledger.record(epoch, np.concatenate(computed))
        step += 1
    assert ledger.lines() == [
        {"epoch": e, "samples": samples, "distinct": samples, "repeated": 0, "missing": 0}
        for e in range(1, epochs + 1)
    ]


# -- pictures -------------------------------------------------------------------------------------


def test_small_pictures_are_drawn_and_other_values_are_not() -> None:
    assert picture([[0, 9], [9, 0]]) == "  @@\n@@"
    assert picture([[[0, 9], [9, 0]]]) == "  @@\n@@"  # a channel first
    assert picture([[[0, 0, 0], [9, 9, 9]], [[9] * 3, [0] * 3]]) == "  @@\n@@"
    wide = picture([[0] * 28, [9] * 28] * 14)
    assert wide is not None
    assert wide.count("\n") == 13
    for value in (3, "x", [], [1, 2], [[1], [2, 3]], [["a", "b"]] * 2, [[0] * 99] * 99, [[]] * 2):
        assert picture(value) is None


# -- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        "data",
        "data register",
        "data register name",
        "data register name path --format x",
        "data preview name --limit 0",
        "data preview name --limit x",
        "data shards",
        "data what",
    ],
)
def test_a_wrong_command_is_a_usage_error(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong.split())
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""
