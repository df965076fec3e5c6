"""People's own tasks and data on real peers: as shown, wrong, unlike the others', and served."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from p2p.local_cluster import LocalCluster
from tests import serving_cluster, serving_door
from tests.cluster_fixtures import ask, is_exact, p2pnode, settled, wait_end, wait_for
from tools import train_and_ask

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def one() -> Iterator[LocalCluster]:
    """Alone for the first test, which is why that is the first."""
    with LocalCluster() as cluster:
        cluster.start()
        yield cluster


@pytest.fixture(scope="module")
def trio(one: LocalCluster) -> LocalCluster:
    one.start_many(2)
    return one


@pytest.fixture
def three(trio: LocalCluster) -> LocalCluster:
    """As a test finds them: three alive. (Peers that earlier tests killed stay in the list.)"""
    wait_for(trio, "status", settled(3))
    return trio


def test_the_readme_s_examples_run_as_written(one: LocalCluster, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "examples", tmp_path / "docs" / "examples")
    shutil.copy(ROOT / "LICENSE", tmp_path)
    programs = {
        "p2pnode": [sys.executable, "-P", "-m", "p2p.cli"],
        "python": [sys.executable],
    }
    lines = [line[4:] for line in README.splitlines() if line.startswith("    p")]
    shown = [line for line in lines if "docs/examples/" in line]
    assert len(shown) == 4
    for line in shown:
        program, *arguments = shlex.split(line.replace("$PWD", str(tmp_path)))
        done = subprocess.run(
            [*programs[program], *arguments],
            cwd=tmp_path,
            env=one.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert program == "python" or " finished " in done.stdout


RAISES_AT_IMPORT = "import no_such_module_here\n"
RAISES_IN_STEP = """
from p2p.tasks.digits import Digits

class Task(Digits):
    def loss(self, model, batch):
        raise ArithmeticError("the user's own mistake")
"""

TOO_LARGE = """
import torch
from p2p.tasks.digits import Digits

class Task(Digits):
    def loss(self, model, batch):
        return torch.empty(1 << 60).sum()
"""
ANOTHER_START = """
import os
from p2p.tasks.digits import Digits

class Task(Digits):
    def model(self):
        model = super().model()
        model[5].bias.data.fill_(float.fromhex(os.urandom(3).hex()))
        return model
"""
RANDOM = """
import os
from p2p.tasks.digits import Digits

class Task(Digits):
    def loss(self, model, batch):
        noise = 1.0 + int.from_bytes(os.urandom(2)) / 65536
        return super().loss(model, batch) + noise * model[7].bias.square().sum()
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (RAISES_AT_IMPORT, "ModuleNotFoundError: No module named 'no_such_module_here'"),
        (RAISES_IN_STEP, "ArithmeticError: the user's own mistake"),
        (TOO_LARGE, "out of memory (own_task.py:7): a smaller --global-batch"),
        (ANOTHER_START, "not deterministic: 5.bias begins with other values"),
        (RANDOM, "not deterministic: the same samples give another gradient of 7.bias"),
    ],
    ids=["import", "step", "memory", "start", "random"],
)
def test_a_task_that_raises_fails_the_job_only(
    three: LocalCluster, tmp_path: Path, source: str, said: str
) -> None:
    file = tmp_path / "own_task.py"
    file.write_text(source)
    ended = p2pnode(three, "submit", f"{file}:Task", "--peers", "3", "--wait")
    assert ended.code == 1
    assert " failed " in ended.out
    assert said in ended.out
    assert "own_task.py:" in ended.out or "--allow-nondeterminism" in ended.out
    assert settled(3)(p2pnode(three, "status", "--json").json)


UNLIKE = """
import os
import psutil
from torch.utils.data import Subset
from p2p.tasks.digits import Digits

class Unlike(Digits):
    "Who finds the file options['bait'] takes it away, says which peer it works for, and differs."

    def __init__(self, options):
        self.how = options["how"]
        try:
            os.rename(options["bait"], options["bait"] + ".taken")
        except FileNotFoundError:
            self.how = ""
        else:
            with open(options["bait"] + ".taken", "w") as told:
                told.write(str(psutil.Process(os.getppid()).ppid()))

    def dataset(self, split):
        whole = super().dataset(split)
        return Subset(whole, range(len(whole) - 7)) if self.how == "short" else whole

    def optimizer(self, model):
        made = super().optimizer(model)
        if self.how == "drifts":
            made.register_step_post_hook(lambda *_: model[5].weight.data.add_(1e-3))
        return made
"""


def of_taken(cluster: LocalCluster, bait: Path) -> dict[str, Any]:
    """The peer whose trainer took the bait."""
    pid = int(bait.with_suffix(".taken").read_text())
    peers = p2pnode(cluster, "peers", "--json").json["peers"]
    return next(peer for peer in peers if peer["pid"] == pid)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("short", "is set aside: its data has 1431 training samples, that of the others 1438"),
        ("drifts", "has other weights than the rest after step {step}: 5.weight differs first"),
    ],
)
def test_a_peer_that_is_unlike_the_others_is_named_and_set_aside(
    three: LocalCluster, tmp_path: Path, how: str, said: str
) -> None:
    file, bait = tmp_path / "unlike.py", tmp_path / "bait"
    file.write_text(UNLIKE)
    bait.touch()
    flags = ["--peers", "2:3", "--epochs", "2", "--set", f"bait={bait}", "--set", f"how={how}"]
    ended = p2pnode(three, "submit", f"{file}:Unlike", *flags, "--wait", "--json")
    assert ended.code == 0, ended.out + ended.err
    told = ask(three, "job", job=json.loads(ended.out.strip().splitlines()[-1])["id"])
    assert (told["state"], len(told["members"]), is_exact(told)) == ("finished", 2, True)
    odd = of_taken(three, bait)
    assert odd["id"] not in told["members"]
    events = [e for e in ask(three, "events")["events"] if e["job"] == told["id"]]
    (why,) = [event["text"] for event in events if event["kind"] == "job-excludes"]
    pattern = re.escape(f"Unlike: {odd['name']} {said}").replace(re.escape("{step}"), r"\d+")
    assert re.fullmatch(pattern, why), why
    assert settled(3)(p2pnode(three, "status", "--json").json)


def test_without_the_promise_a_random_task_goes_on(three: LocalCluster, tmp_path: Path) -> None:
    file = tmp_path / "own_task.py"
    file.write_text(RANDOM)
    flags = ["--peers", "3", "--epochs", "1", "--allow-nondeterminism", "--wait", "--json"]
    ended = p2pnode(three, "submit", f"{file}:Task", *flags)
    assert ended.code == 0, ended.out + ended.err
    told = json.loads(ended.out.strip().splitlines()[-1])
    assert (told["state"], is_exact(told)) == ("finished", True)


NOISY = """
import os
import psutil
import torch
from p2p.tasks.digits import Digits

class Noisy(Digits):
    "Who finds the file options['bait'] takes it away, says which peer it works for, and lies."

    def __init__(self, options):
        try:
            os.rename(options["bait"], options["bait"] + ".taken")
        except FileNotFoundError:
            self.lies = False
        else:
            self.lies = True
            with open(options["bait"] + ".taken", "w") as told:
                told.write(str(psutil.Process(os.getppid()).ppid()))

    def loss(self, model, batch):
        noise = sum((p * torch.randn_like(p)).sum() for p in model.parameters())
        return super().loss(model, batch) + (noise if self.lies else 0.0 * noise)
"""


def test_a_peer_that_sends_noise_is_outvoted_and_named(three: LocalCluster, tmp_path: Path) -> None:
    file, bait = tmp_path / "noisy.py", tmp_path / "bait"
    file.write_text(NOISY)
    bait.touch()
    flags = ["--strategy", "robust", "--peers", "3", "--shards", "3", "--epochs", "4"]
    flags += ["--set", f"bait={bait}", "--wait", "--json"]
    ended = p2pnode(three, "submit", f"{file}:Noisy", *flags)
    assert ended.code == 0, ended.out + ended.err
    told = ask(three, "job", job=json.loads(ended.out.strip().splitlines()[-1])["id"])
    assert told["metrics"]["accuracy"] > 0.7, told
    liar = of_taken(three, bait)
    named = f"{liar['name']}: its gradients are far from all others', step after step"
    assert told["notices"] == [{"text": named, "peer": liar["id"]}]
    events = p2pnode(three, "events", "--job", told["id"], "--json").json["events"]
    assert [event["peer"] for event in events if event["kind"] == "notice"] == [liar["id"]]
    assert named in p2pnode(three, "job", told["id"]).out


READS = """
import numpy as np
import torch
from p2p.tasks.digits import Digits
from torch.utils.data import TensorDataset

class Reads(Digits):
    def __init__(self, options):
        self.folder = options.data

    def dataset(self, split):
        with np.load(f"{self.folder}/digits.npz") as arrays:
            pictures = torch.from_numpy(arrays["images"]).float().unsqueeze(1) / 16
            labels = torch.from_numpy(arrays["labels"]).long()
        return TensorDataset(pictures[:150], labels[:150])
"""


def test_a_registered_dataset_is_fetched_checked_and_used_exactly_once(
    three: LocalCluster, tmp_path: Path
) -> None:
    """All peers are on this host, so what one of them lacks is the folder that all look at."""
    data, file = tmp_path / "mine", tmp_path / "reads.py"
    data.mkdir()
    digits = (resources.files("p2p.tasks") / "digits.npz").read_bytes()
    (data / "digits.npz").write_bytes(digits)
    file.write_text(READS)
    told = p2pnode(three, "data", "register", "mine", str(data), "--json").json
    assert (told["schema"], told["dataset"]["samples"]) == (1, 1_797)
    (row,) = ask(three, "data")["datasets"]
    assert (row["name"], row["format"], row["content"]) == ("mine", "npz", told["content"])
    ended = p2pnode(three, "data", "preview", "mine", "--limit", "1")
    assert ended.out.startswith("all[0] · labels 0\n    --%%++")

    peer = next(peer for peer in three.peers if peer.id == row["peer"])
    contents = Path(peer.told["data_dir"], "content")
    (contents / hashlib.sha256(digits).hexdigest()).write_bytes(digits)
    (data / "digits.npz").unlink()
    flags = ["--peers", "3", "--epochs", "2", "--data", "mine", "--global-batch", "40"]
    ended = p2pnode(three, "submit", f"{file}:Reads", *flags, "--wait", "--json")
    assert ended.code == 0, ended.out + ended.err
    told = json.loads(ended.out.strip().splitlines()[-1])
    assert [line["samples"] for line in told["ledger"]] == [150, 150]
    assert is_exact(told)
    assert len(list(three.folder.glob("peer-*/datasets/*/digits.npz"))) == 3
    ranges = ask(three, "data_shards", job=told["id"])
    assert ranges["samples"] == [120, 150]  # a short last batch
    assert sum(row["samples"][1] - row["samples"][0] for row in ranges["peers"]) == 30

    (data / "digits.npz").write_bytes(digits[:-1])
    job = ask(three, "submit", task="digits", data="mine", data_name="mine")["job"]
    told = wait_end(three, job)
    assert told["state"] == "failed"
    assert "digits.npz has 45393 bytes, 45394 in the dataset" in told["reason"]
    ask(three, "data_drop", name="mine")
    assert ask(three, "data")["datasets"] == []


def test_the_readme_trains_a_model_and_asks_it(three: LocalCluster) -> None:
    """As written but for a short job on little data; `make ask` does all, and opens the door."""
    serving_cluster.without_the_dead(three)
    said = {}
    for line in train_and_ask.commands(README, 2, ROOT / "LICENSE"):
        if line.startswith((train_and_ask.JOINS, "curl ")):
            continue
        done = train_and_ask.carry_out(three, line)
        assert done.returncode == 0, done.stdout + done.stderr
        said[line.split()[1]] = done.stdout
    assert list(said) == ["submit", "serve", "prompt", "models", "verify", "unserve"]
    assert " finished " in said["submit"]
    assert said["prompt"].strip()
    assert "BAD" not in said["verify"]


def test_an_answer_survives_the_death_of_who_gives_it_and_who_was_asked(
    three: LocalCluster,
) -> None:
    serving_cluster.trained_and_served(three)
    front = serving_cluster.front_of(three)
    expected = serving_cluster.undisturbed(three, front)
    serving_cluster.without_the_dead(three)
    verified = p2pnode(three, "verify")
    assert verified.code == 0, verified.out
    words = ["--max-tokens", "450", "--temperature", "1", "--seed", "5"]
    asked = p2pnode(three, "prompt", "def main", *words, "--peer", front.address, "--json")
    assert asked.json["text"] == expected
    served = ask(three, "metrics", peer=front.id, names=["serve.*"])["series"]
    assert {name.rpartition(".")[2] for name in served} >= {"first_token_s", "requests_per_s"}
    assert serving_cluster.as_the_screen_asks(three, front) == expected
    serving_cluster.conversation_at_a_terminal(three)
    serving_door.opened_tried_and_closed(three, expected)
    wait_for(three, "status", settled(3))
    text, answer, killed = serving_cluster.answer_while_peers_die(three, front)
    assert (text, len(killed)) == (expected, 2)
    assert answer.end is not None
    assert answer.end.completion_tokens == len(answer.told_ids) == 450
    verified = p2pnode(three, "verify")  # the last peer answers, and says what is wrong
    assert verified.code == 6
    assert "no leader that a majority of the voters follows" in verified.out
    three.restart(*killed)
    wait_for(three, "status", settled(3))
    ask(three, "unserve", model="tales")

    def is_over(told: dict[str, Any]) -> bool:  # another peer may answer, and a moment behind
        return {job["state"] for job in told["jobs"] if job["kind"] == "serve"} == {"cancelled"}

    wait_for(three, "status", is_over)
