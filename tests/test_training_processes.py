"""Real spares and trainers: same bits through kills, joins, holds and expired leases."""

import fcntl
import itertools
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from p2p.tasks.digits import Digits
from p2p.training.stream import Message
from tests.training_harness import WAIT_S, Spare, Stage, even, finish, job, stage

pytestmark = pytest.mark.processes

STEPS = 30  # an epoch of digits has 24, the last one short
MIDDLE = 8

GATED = """
import fcntl
from p2p.tasks.digits import Digits
class Gated(Digits):
    "Stops at step options['at'] while somebody has locked the file options['gate']."
    calls = 0
    def loss(self, model, batch):
        self.calls += 1
        steps = (self.calls - 3) // int(self.options["shards"])  # the first two calls warm up
        if steps == int(self.options["at"]):
            with open(self.options["gate"]) as gate:
                fcntl.flock(gate, fcntl.LOCK_SH)
        return super().loss(model, batch)
"""

DEADLY = """
import os, signal
from p2p.tasks.digits import Digits
class Deadly(Digits):
    "The first trainer to reach that many calls of loss dies by SIGKILL: at once or evaluating."
    calls = 0
    def die(self, where):
        if self.calls > int(self.options["calls"]) and where == self.options["where"]:
            try:
                os.unlink(self.options["poison"])
            except FileNotFoundError:
                return
            os.kill(os.getpid(), signal.SIGKILL)
    def loss(self, model, batch):
        self.calls += 1
        self.die("loss")
        return super().loss(model, batch)
    def evaluate(self, model, batch):
        self.die("evaluate")
        return super().evaluate(model, batch)
"""


@pytest.fixture(scope="session")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spare]:
    made = Spare(tmp_path_factory.mktemp("spare") / "log")
    yield made
    made.close()


@pytest.fixture
def play(spare: Spare, tmp_path: Path) -> Iterator[Stage]:
    with stage(spare, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def undisturbed(spare: Spare, tmp_path_factory: pytest.TempPathFactory) -> Message:
    """How one trainer alone ends."""
    with stage(spare, tmp_path_factory.mktemp("alone")) as made:
        (alone,) = made.ready("alone", spec=job(steps=STEPS))
        made.generation(alone, mark_every_s=60.0)
        return finish(alone)


def source(text: str, name: str, **options: Any) -> dict[str, Any]:
    return {
        "task": f"task.py:{name}",
        "task_class": name,
        "task_source": text.encode(),
        "options": {key: str(value) for key, value in options.items()},
    }


def assert_equal(last: Message, undisturbed: Message) -> None:
    for field in ("state_hash", "step", "samples", "metrics", "ledger", "loss"):
        assert last[field] == undisturbed[field], field
    assert [line["repeated"] + line["missing"] for line in last["ledger"]] == [0, 0]
    assert last["ledger"][0]["samples"] == 1438


@pytest.mark.parametrize("shards", [even(2), [(0, 1), (1, 8), (8, 12)]])
def test_same_bits_for_any_trainers(
    play: Stage, undisturbed: Message, shards: list[tuple[int, int]]
) -> None:
    trainers = play.ready(*"abc"[: len(shards)], spec=job(steps=STEPS))
    play.generation(*trainers, shards=shards)
    assert_equal(finish(*trainers), undisturbed)
    for step in range(1, STEPS + 1):
        marks = [t.wait("mark", lambda m, s=step: m["step"] == s) for t in trainers]
        assert len({m["state_hash"] for m in marks}) == 1


WIDE = """
from torch import nn
from p2p.tasks.digits import Digits

class Wide(Digits):
    def model(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 28_500), nn.ReLU(), nn.Linear(28_500, 10))
"""


def test_who_joins_a_large_model_follows_first(play: Stage) -> None:
    """The others train on while it gets the state: then it lacks a step at most, and nothing when
    they stand still."""
    spec = job(steps=100_000, global_batch=12, **source(WIDE, "Wide"))
    (alone,) = play.ready("a", spec=spec)
    play.generation(alone, mark_every_s=0.2)
    joiner = play.start("d", spec)
    joiner.endpoints = joiner.wait("ready", lambda m: m["learning"])["endpoints"]
    gone = {**alone.endpoints, "giver_ipc": "", "giver_tcp": "nowhere"}
    members = [
        {"peer": name, "endpoints": at} for name, at in (("x", gone), ("a", alone.endpoints))
    ]
    joiner.tell("follow", number=play.number, members=members, method=None)
    level = joiner.wait("ready", lambda m: not m["learning"])
    assert level["step"] >= 1
    number = play.generation(alone, joiner, mark_every_s=0.0, in_order=True)
    entered = joiner.wait("entered", lambda m: m["generation"] == number)
    assert entered["received"] is None, "it followed until the other one left its generation"
    assert alone.wait("entered", lambda m: m["generation"] == number)["received"] is None
    assert entered["start_step"] >= level["step"]
    mark = joiner.wait("mark")
    told = alone.wait("mark", lambda m: m["step"] == mark["step"])
    assert {**told, "notices": 0} == {**mark, "notices": 0}


@pytest.mark.parametrize("victim", [0, 2])
def test_kill_9_in_the_middle_and_a_joiner(play: Stage, undisturbed: Message, victim: int) -> None:
    spec = job(steps=STEPS, checkpoint_every=STEPS)  # without that, when one is due is up to time
    trainers = play.ready("a", "b", "c", spec=spec)
    play.generation(*trainers)
    trainers[1].wait("mark", lambda m: m["step"] >= MIDDLE)
    trainers.pop(victim).kill()
    number = play.generation(*trainers)
    entered = trainers[0].wait("entered", lambda m: m["generation"] == number)
    assert entered["start_step"] >= MIDDLE
    assert entered["steps_repeated"] == 0
    assert 0 < entered["stall_s"] < WAIT_S
    (joiner,) = play.ready("d", spec=spec)
    number = play.generation(joiner, *trainers)
    assert joiner.wait("entered")["received"] == "state"
    assert_equal(finish(joiner, *trainers), undisturbed)
    checkpoints = [m for m in joiner.said if m["kind"] == "checkpoint"]
    assert [(m["step"], m["count"]) for m in checkpoints] == [(STEPS, 1)]


@pytest.mark.parametrize(("where", "step"), [("loss", MIDDLE), ("evaluate", 24)])
def test_death_between_two_shards(
    play: Stage, undisturbed: Message, tmp_path: Path, where: str, step: int
) -> None:
    poison = tmp_path / "poison"
    poison.touch()
    # The warm-up (twice), whole steps of four shards, and two shards more: in the midst of a step.
    calls = 2 + 4 * MIDDLE + 2
    options = {"calls": calls, "poison": poison, "where": where}
    trainers = play.ready(
        "a", "b", "c", spec=job(steps=STEPS, **source(DEADLY, "Deadly", **options))
    )
    play.generation(*trainers)
    dead = play.spare.next_exit({trainer.child for trainer in trainers})
    assert dead["signal"] == signal.SIGKILL
    trainers = [t for t in trainers if t.pid != dead["pid"]]
    play.generation(*trainers)
    assert trainers[0].wait("entered", lambda m: m["generation"] == 2)["start_step"] == step
    assert_equal(finish(*trainers), undisturbed)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_ends_with_the_same_bits(play: Stage, undisturbed: Message, seed: int) -> None:
    chance = random.Random(seed)  # the seed in the test's name replays what is done to whom
    spec = job(steps=STEPS)
    trainers = play.ready("a", "b", "c", spec=spec)
    number = play.generation(*trainers)
    for step in sorted(chance.sample(range(1, STEPS), 5)):
        trainers[0].wait("mark", lambda m, s=step: m["step"] >= s)
        act = chance.choice(["kill", "join", "hold", "shuffle"])
        if act == "kill" and len(trainers) > 1:
            trainers.pop(chance.randrange(len(trainers))).kill()
        elif act == "join":
            trainers += play.ready(f"joins-at-{step}", spec=spec)
        elif act == "hold":
            for trainer in trainers:
                trainer.tell("hold")
        chance.shuffle(trainers)
        inner = sorted(chance.randint(0, 12) for _ in trainers[1:])  # empty ranges are allowed
        shards = list(itertools.pairwise([0, *inner, 12]))
        number = play.generation(*trainers, shards=shards)
        entered = [t.wait("entered", lambda m, n=number: m["generation"] == n) for t in trainers]
        assert {m["steps_repeated"] for m in entered} == {0}
        assert len({m["start_step"] for m in entered}) == 1
    assert_equal(finish(*trainers), undisturbed)


def test_hold_then_checkpoint_then_resume(play: Stage, undisturbed: Message) -> None:
    trainers = play.ready("a", "b", spec=job(steps=STEPS))
    play.generation(*trainers)
    trainers[0].wait("mark", lambda m: m["step"] >= MIDDLE)
    for trainer in trainers:
        trainer.tell("hold")
    trainers[0].tell("checkpoint", number=1)
    held_at = trainers[0].wait("checkpoint")["step"]
    assert MIDDLE <= held_at < STEPS
    trainers[0].tell("checkpoint", number=2)  # nothing has happened, but somebody asks again
    assert trainers[0].wait("checkpoint", lambda m: m["asks"] == 2)["step"] == held_at
    play.generation(*trainers)
    entered = [t.wait("entered", lambda m: m["generation"] == 2) for t in trainers]
    assert {m["start_step"] for m in entered} <= {held_at, held_at + 1}
    assert_equal(finish(*trainers), undisturbed)


def test_without_a_lease_nothing_is_completed(
    play: Stage, undisturbed: Message, tmp_path: Path
) -> None:
    gate = (tmp_path / "gate").open("w")
    fcntl.flock(gate, fcntl.LOCK_EX)
    options = {"at": MIDDLE, "shards": 6, "gate": gate.name}
    trainers = play.ready("a", "b", spec=job(steps=STEPS, **source(GATED, "Gated", **options)))
    behind, ahead = trainers
    behind.leased = False
    until = time.monotonic() + 3.0
    behind.tell("lease", until=until)
    play.generation(*trainers)
    ahead.wait("mark", lambda m: m["step"] == MIDDLE)
    pause = select.select([], [], [], max(0.0, until - time.monotonic()) + 0.01)
    assert pause == ([], [], [])
    gate.close()
    ahead.wait("mark", lambda m: m["step"] == MIDDLE + 1)
    assert not [m for m in behind.said if m["kind"] == "mark" and m["step"] > MIDDLE]
    play.generation(*trainers)
    behind.leased = True
    play.lease()
    entered = behind.wait("entered", lambda m: m["generation"] == 2)
    assert (entered["received"], entered["start_step"]) == ("result", MIDDLE + 1)
    assert_equal(finish(*trainers), undisturbed)


@pytest.mark.parametrize(
    ("text", "during", "error"),
    [
        ("import nothing_like_it\n", "import", "ModuleNotFoundError: No module named"),
        ("class Digits:\n  x = = 1\n", "import", "SyntaxError: invalid syntax (task.py:2)"),
        ("class Other: pass\n", "import", "task.py has no class Digits: it has Other"),
        ("class Digits: pass\n", "setup", "class Digits has no model(self) and no dataset("),
        (
            "from p2p.tasks.digits import Digits as D\nclass Digits(D):\n"
            "  def loss(self, model, batch):\n    raise ValueError('too bad')\n",
            "step",
            "ValueError: too bad (task.py:4)",
        ),
        (
            "from p2p.tasks.digits import Digits as D\nclass Digits(D):\n"
            "  def loss(self, model, batch): return model(batch[0])\n",
            "step",
            "loss() gave a tensor of shape (5, 10), not one number",
        ),
    ],
)
def test_a_task_that_fails_is_reported(play: Stage, text: str, during: str, error: str) -> None:
    trainer = play.start("a", job(**source(text, "Digits")))
    failed = trainer.wait("failed")
    assert failed["during"] == during
    assert failed["user_error"]
    assert error in failed["error"]
    assert trainer.exited()["code"] == 1


def test_modules_travel_with_the_task_and_see_nothing_else(play: Stage, tmp_path: Path) -> None:
    text = (
        "from pathlib import Path\nfrom net.body import Mine\nclass Task(Mine):\n"
        "  lr = float((Path(__file__).parent / 'rate.txt').read_text())\n"
    )
    body = b"from p2p.tasks.digits import Digits\nfrom . import size\nclass Mine(Digits):\n"
    body += b"  global_batch = size.BATCH\n"
    files = {"net/__init__.py": b"", "net/size.py": b"BATCH = 719\n", "net/body.py": body}
    files["rate.txt"] = b"0.125"
    spec = job(epochs=1, task_files=files, **source(text, "Task"))
    trainers = play.ready("a", "b", spec=spec)
    play.generation(*trainers)
    assert finish(*trainers)["step"] == 2
    (folder,) = (tmp_path / "source").iterdir()
    there = {str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.is_file()}
    assert {name for name in there if not name.endswith(".pyc")} == {*files, "task.py"}
    broken = {**files, "net/size.py": b"BATCH = 719 // 0\n"}
    failed = play.start("c", job(task_files=broken, **source(text, "Task"))).wait("failed")
    assert failed["error"] == "ZeroDivisionError: integer division or modulo by zero (size.py:1)"
    assert failed["user_error"]


def offer(written: Message) -> Message:
    """As the peer tells its trainer of it later."""
    parts = [{n: part[n] for n in ("number", "path", "digest")} for part in written["parts"]]
    return {**{n: written[n] for n in ("step", "count", "state_hash")}, "parts": parts}


def test_checkpoints_load_without_us_and_a_run_resumes_from_one(
    play: Stage, undisturbed: Message
) -> None:
    writers = play.ready("a", "b", "c", spec=job(steps=STEPS, checkpoint_every=10))
    play.generation(*writers)
    finish(*writers)
    written = [[m for m in t.said if m["kind"] == "checkpoint"] for t in writers]
    assert [[m["step"] for m in each] for each in written] == [[10, 20, 30]] * 3
    assert [len(each[-1]["parts"]) for each in written] == [1, 1, 0], "a majority, of the final one"
    final = written[0][-1]
    assert final["state_hash"] == undisturbed["state_hash"]
    assert [part["number"] for part in written[2][0]["parts"]] == [2, 0]

    model = Digits().model()
    model.load_state_dict(load_file(final["parts"][0]["path"]), strict=False)
    model.eval()

    pictures, labels = Digits().dataset("test").tensors
    with torch.no_grad():
        right = (model(pictures).argmax(dim=1) == labels).double().mean()
    assert float(right) == pytest.approx(undisturbed["metrics"]["accuracy"])
    # Two of the three come back, and somebody who has nothing: on other numbers of peers.
    offers = [[offer(m) for m in each if m["step"] in (10, 20)] for each in written]
    damaged = Path(offers[0][1]["parts"][0]["path"])
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")  # part 0 of step 20: c has it too
    fresh, a, c, d = play.ready("fresh", "a2", "c2", "d", spec=job(steps=STEPS))
    play.generation(fresh, a, c, d, checkpoints={"a2": offers[0], "c2": offers[2]})
    assert fresh.wait("entered")["start_step"] == 20
    assert_equal(finish(fresh, a, c, d), undisturbed)
    # With that copy gone as well it cannot be used; then the one before, for the leader says so.
    Path(offers[2][1]["parts"][1]["path"]).unlink()
    e, f = play.ready("e", "f", spec=job(steps=STEPS))
    play.generation(e, f, checkpoints={"e": offers[0], "f": offers[2]})
    told = e.wait("unusable")
    assert told["step"] == f.wait("unusable")["step"] == 20
    assert f"{damaged} is not what was written: it was damaged or changed" in told["error"]
    play.generation(e, f, checkpoints={"e": offers[0][:1], "f": offers[2][:1]})
    assert f.wait("entered")["start_step"] == 10
    assert_equal(finish(e, f), undisturbed)


def test_what_a_codec_left_out_comes_back_from_a_checkpoint(play: Stage) -> None:
    """... on another number of peers, which then have the bits of those that were not disturbed."""
    spec = job(steps=10, codec="topk:0.05", checkpoint_every=6)
    writers = play.ready("a", "b", spec=spec)
    play.generation(*writers)
    last = finish(*writers)
    written = [
        [offer(m) for m in t.said if m["kind"] == "checkpoint" and m["step"] == 6] for t in writers
    ]
    others = play.ready("c", "d", "e", spec=spec)
    play.generation(*others, checkpoints={"c": written[0], "e": written[1]})
    assert others[1].wait("entered")["start_step"] == 6
    assert finish(*others)["state_hash"] == last["state_hash"]


def test_a_gpu_that_is_not_there_is_told(play: Stage) -> None:
    failed = play.start("a", job(steps=2), gpu="GPU-nowhere").wait("failed")
    assert failed["error"].startswith("cannot compute on GPU-nowhere: ")
    assert failed["error"].endswith("; start this peer with --device cpu")


def test_a_checkpoint_that_cannot_be_written(play: Stage, tmp_path: Path) -> None:
    (tmp_path / "checkpoints-a").write_text("in the way")
    (trainer,) = play.ready("a", spec=job(steps=12, checkpoint_every=5))
    play.generation(trainer)
    reported = trainer.wait("checkpoint_failed")
    assert reported["step"] == 5
    assert "cannot write checkpoint" in reported["error"]
    final = trainer.wait("checkpoint_failed", lambda m: m["step"] == 12)
    assert final["final_of"] == 1
    # The weights stay in memory: with room made, the next generation writes them.
    (tmp_path / "checkpoints-a").unlink()
    play.generation(trainer)
    assert trainer.wait("finished")["step"] == 12
    assert Path(trainer.wait("checkpoint")["parts"][0]["path"]).exists()


def test_a_method_that_cannot_be_is_refused_and_the_trainer_goes_on(play: Stage) -> None:
    (one,) = play.ready("one", spec=job(steps=2))
    by_task = {"strategy": "robust", "codec": "int32", "options": {"rule": "task"}, "revision": 1}
    number = play.generation(one, method=by_task)
    refused = one.wait("refused")
    assert refused["generation"] == number
    assert "rule=task needs aggregate" in refused["error"]
    play.generation(one, method={**by_task, "options": {}, "revision": 2})
    assert finish(one)["step"] == 2


def test_stop_ends_a_trainer_in_the_middle(play: Stage) -> None:
    (trainer,) = play.ready("a", spec=job(steps=1000))
    play.generation(trainer)
    trainer.wait("mark")
    assert Path(f"/proc/{trainer.pid}/oom_score_adj").read_text() == "500\n", "first to go"
    trainer.tell("stop")
    assert trainer.exited()["code"] == 0


def test_stop_ends_a_trainer_whose_task_hangs_in_its_import(play: Stage) -> None:
    trainer = play.start("a", job(**source("import time; time.sleep(1000)", "Digits")))
    trainer.tell("stop")
    assert trainer.exited()["code"] == 0


PEER = """
import sys, tempfile
from pathlib import Path
from tests.training_harness import Spare, job, Stage
folder = Path(sys.argv[1])
spare = Spare(folder / "log")
stage = Stage(spare, folder)
(trainer,) = stage.ready("a", spec=job())
stage.generation(trainer)
trainer.wait("mark")
print(spare.process.pid, trainer.pid, stage.ipc, flush=True)
sys.stdin.read()
"""


def test_nothing_survives_its_peer(tmp_path: Path) -> None:
    peer = subprocess.Popen(
        [sys.executable, "-c", PEER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert peer.stdout is not None
    assert peer.stdin is not None
    *pids, ipc = peer.stdout.readline().split()
    watched = [os.pidfd_open(int(pid)) for pid in pids]
    os.kill(peer.pid, signal.SIGKILL)
    for watch in watched:
        assert select.select([watch], [], [], WAIT_S)[0]
        os.close(watch)
    peer.wait(WAIT_S)
    peer.stdin.close()
    peer.stdout.close()
    for left in Path(ipc).iterdir():
        left.unlink()
    Path(ipc).rmdir()
