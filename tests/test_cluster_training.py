"""The promise, with real processes: kill, join, leave, pause – the same bits, every sample once."""

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from p2p.local_cluster import LocalCluster, LocalPeer
from tests import serving_cluster
from tests.cluster_fixtures import (
    ask,
    follower_of,
    is_exact,
    leader_of,
    p2pnode,
    settled,
    wait_end,
    wait_for,
    wait_job,
)
from tools import train_and_ask

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
EPOCHS = 8
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
STEPS = EPOCHS * 24


@pytest.fixture(scope="module")
def one() -> Iterator[LocalCluster]:
    with LocalCluster(("--allow-faults", "--metrics-port", "0")) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture(scope="module")
def reference(one: LocalCluster) -> str:
    """The state hash of an undisturbed run of one peer."""
    ended = p2pnode(one, "submit", "digits", "--epochs", str(EPOCHS), "--wait", "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out.strip().splitlines()[-1])
    assert told["state"] == "finished"
    assert told["schema"] == 1
    return str(told["state_hash"])


@pytest.fixture(scope="module")
def trio() -> Iterator[LocalCluster]:
    """Three peers for all tests: importing torch three times is most of what a test would take."""
    with LocalCluster() as cluster:
        cluster.start()
        cluster.start_many(2)
        yield cluster


@pytest.fixture
def three(trio: LocalCluster) -> LocalCluster:
    """As a test finds them: three alive. (Peers that earlier tests killed stay in the list.)"""
    wait_for(trio, "status", settled(3))
    return trio


@pytest.fixture
def warm(three: LocalCluster) -> None:
    """Each can start a trainer at once: a short job that needs all three has shown it."""
    wait_end(three, submit(three, "--peers", "3", epochs=1))


def test_parameter_server_loses_a_trainer_and_ends_as_ring_does(
    three: LocalCluster, reference: str
) -> None:
    job = submit(three, "--strategy", "parameter-server", "--peers", "3")
    told = wait_job(three, job, lambda told: told["step"] >= STEPS // 4 and told["compression"])
    assert 0.5 < told["compression"] < 0.8  # gradients go to two of three, weights to both others
    assert ask(three, "fault", kind="crash-trainer", peer=follower_of(three).id)["crashed"] == 1
    told = wait_end(three, job)
    assert told["state"] == "finished", told
    assert told["state_hash"] == reference
    assert is_exact(told)
    assert {made["strategy"] for made in told["generations"]} == {"parameter-server"}
    assert len(told["generations"]) >= 2


def submit(cluster: LocalCluster, *arguments: str, epochs: int = EPOCHS) -> str:
    ended = p2pnode(cluster, "submit", "digits", "--epochs", str(epochs), "--json", *arguments)
    assert ended.code == 0, ended.err
    return str(ended.json["job"])


@pytest.mark.usefixtures("warm")
def test_leader_killed_then_peer_added(three: LocalCluster, reference: str) -> None:
    job = submit(three)
    wait_job(three, job, lambda told: told["step"] >= STEPS // 4)
    leader_of(three).kill()
    newcomer = three.start()
    told = wait_end(three, job)
    assert told["state"] == "finished", told
    assert told["state_hash"] == reference
    assert is_exact(told)
    assert told["generations"][1]["stall_seconds"] is not None
    # The survivors and the newcomer tell the same of it.
    views = [
        p2pnode(three, "status", "--json", "--peer", peer.address).json["jobs"]
        for peer in three.peers
        if peer.is_running
    ]
    assert len(views) == 3
    assert all(view == views[0] for view in views)
    wait_for(three, "status", settled(3))
    assert any(peer["id"] == newcomer.id for peer in ask(three, "peers")["peers"])


@pytest.mark.usefixtures("warm")
def test_trainer_crash_pause_and_clean_leave(three: LocalCluster, reference: str) -> None:
    job = submit(three)
    wait_job(three, job, lambda told: told["step"] >= STEPS // 8)
    follower = follower_of(three)
    # Asked directly: a command of its own takes a good part of the run on a busy machine.
    assert ask(three, "fault", kind="crash-trainer", peer=follower.id)["crashed"] == 1
    wait_job(three, job, lambda told: told["generation"] >= 3 and told["state"] == "running")
    ask(three, "pause", job=job)
    paused = wait_job(three, job, lambda told: told["state"] == "paused")
    assert p2pnode(three, "resume", job).code == 0
    wait_job(three, job, lambda told: told["state"] == "running" and told["step"] > paused["step"])
    leaver = leader_of(three)
    assert leaver.terminate() == 0
    told = wait_end(three, job)
    assert told["state"] == "finished", told
    assert told["state_hash"] == reference
    assert is_exact(told)
    status = wait_for(three, "status", lambda told: told["cluster"]["leader"])
    left = next(peer for peer in status["peers"] if peer["id"] == leaver.id)
    assert left["state"] == "left"
    (back,) = three.restart(leaver)
    assert (back.id, back.address) == (leaver.id, leaver.address)
    wait_for(three, "status", settled(3))


@pytest.mark.usefixtures("warm")
def test_another_strategy_and_codec_while_it_runs(three: LocalCluster) -> None:
    job = submit(three)
    wait_job(three, job, lambda told: told["step"] >= STEPS // 8)
    done = p2pnode(three, "set", job, "strategy=local-sgd", "local_steps=4", "codec=int16")
    assert done.code == 0, done.err
    told = wait_job(three, job, lambda told: told["strategy"] == "local-sgd")
    wait_job(three, job, lambda now: now["step"] > told["step"] + 8)
    assert ask(three, "fault", kind="crash-trainer", peer=follower_of(three).id)["crashed"] == 1
    number = len(told["generations"])
    wait_job(three, job, lambda now: now["generation"] > number and now["state"] == "running")
    assert p2pnode(three, "set", job, "strategy=ring", "codec=int32").code == 0
    told = wait_end(three, job)
    assert told["state"] == "finished", told
    assert is_exact(told)
    methods = [f"{made['strategy']} {made['codec']}" for made in told["generations"]]
    assert list(dict.fromkeys(methods)) == ["ring int32", "local-sgd int16"]
    assert methods[-1] == "ring int32"
    reasons = [made["reason"] for made in told["generations"]]
    assert "strategy set to local-sgd, local_steps set to 4, codec set to int16" in reasons
    refused = p2pnode(three, "set", job, "strategy=ring")
    assert (refused.code, refused.err) == (1, "p2pnode: digits is finished already\n")


def test_checkpoint_loads_without_our_code(three: LocalCluster) -> None:
    job = submit(three, "--checkpoint-every", "15", "--peers", "3", epochs=2)
    told = wait_end(three, job)
    assert told["state"] == "finished", told
    made = told["checkpoints"]
    assert [row["step"] for row in made] == [30, 45, 48], "the newest three"
    kept = {Path(part["path"]) for row in made for part in row["parts"]}
    assert len(kept) == 2 * 6 + 2, "a majority of three has each part, and the final one"
    folders = {path.parent for path in kept}
    wait_for(three, "status", lambda _: {f for d in folders for f in d.iterdir()} == kept)
    assert made[-1]["state_hash"] == told["state_hash"]
    tensors = load_file(made[-1]["path"])
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].tobytes())
    assert f"sha256:{digest.hexdigest()}" == told["state_hash"]
    the_verbs_of_checkpoints(three, job, told)


def the_verbs_of_checkpoints(three: LocalCluster, job: str, told: dict[str, Any]) -> None:
    """Of a job that has ended, by three peers: shown, exported, gone on from, refused."""
    keys = "step path bytes seconds state_hash"  # exactly; the parts are told elsewhere
    shown = p2pnode(three, "job", job, "--json").json
    assert [list(row) for row in shown["checkpoints"]] == 3 * [keys.split()]
    assert p2pnode(three, "job", job, "--json", "--detail").json == told
    listed = p2pnode(three, "checkpoints", job, "--json").json
    assert listed == {"schema": 1, "job": job, "checkpoints": told["checkpoints"]}
    whole = load_file(told["checkpoints"][-1]["path"])
    model = three.folder / "model.safetensors"
    exported = p2pnode(three, "export-model", job, "-o", str(model), "--json")
    assert exported.json["step"] == 48, exported.err
    tensors = load_file(model)
    names = {name for name in whole if not name.startswith("optimizer.")}
    assert tensors.keys() == names
    assert all((tensors[name] == whole[name]).all() for name in names)
    # One copy of a part of step 30 is changed, and there is another; of step 45 there is none.
    for row, copies in ((told["checkpoints"][0], 1), (told["checkpoints"][1], 2)):
        for part in row["parts"][:copies]:
            path = Path(part["path"])
            path.write_bytes(path.read_bytes()[:-1] + b"!")
    again = p2pnode(three, "restore", job, "--step", "30", "--peers", "2", "--wait", "--json")
    assert again.code == 0, again.err
    end = json.loads(again.out.splitlines()[-1])
    # Two of three: where they have no other copy of that part, it is fetched, for a second try.
    begun = next(made for made in end["generations"] if made["start_step"] is not None)
    assert (end["state_hash"], begun["start_step"]) == (told["state_hash"], 30)
    assert begun["reason"].endswith(f"from the checkpoint of step 30 of {job}")
    assert end["ledger"] == told["ledger"]
    for verb in (["restore", "--peers", "2", "--wait"], ["export-model", "-o", str(model)]):
        refused = p2pnode(three, verb[0], job, "--step", "45", *verb[1:])
        assert refused.code == 1
        assert "is not what was written: it was damaged or changed" in refused.out + refused.err
    refused = p2pnode(three, "restore", job, "--step", "31")
    assert refused.err == "p2pnode: digits has no checkpoint of step 31: there are 30, 45, 48\n"


def test_when_all_trainers_die_the_job_goes_back_to_its_last_checkpoint(
    three: LocalCluster, reference: str
) -> None:
    job = submit(three, "--checkpoint-every", "100000")
    wait_job(three, job, lambda told: told["step"] >= 20)
    saved = p2pnode(three, "checkpoint", job, "--json")
    assert saved.code == 0, saved.err
    step = saved.json["checkpoint"]["step"]
    wait_job(three, job, lambda told: told["step"] >= step + 5)
    for peer in three.peers:
        if peer.is_running:
            ask(three, "fault", kind="crash-trainer", peer=peer.id)
    told = wait_end(three, job)
    back = [made for made in told["generations"] if "every trainer was lost" in made["reason"]]
    assert back, told["generations"]
    assert back[-1]["reason"].endswith(f"back to the checkpoint of step {step}")
    assert (back[-1]["start_step"], told["state_hash"]) == (step, reference)
    assert back[-1]["steps_repeated"] >= 5, "what was shown as done and is done again"
    assert is_exact(told)


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


def test_auto_begins_with_what_keeps_the_bits(three: LocalCluster, reference: str) -> None:
    """Its trainers compare times at marks; a switch comes after half a minute at the earliest."""
    told = wait_end(three, submit(three, "--strategy", "auto"))
    assert (told["state"], told["auto"]) == ("finished", True), told
    assert is_exact(told)
    methods = {(made["strategy"], made["codec"]) for made in told["generations"]}
    assert ("ring", "int32") in methods
    if len(methods) == 1:
        assert told["state_hash"] == reference


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


PATIENT = """
import os
import sys
import time
from torch import nn
from p2p.tasks.digits import Digits

class Patient(nn.Sequential):
    "A trainer that gets its state from others waits with it in its hands while the gate is shut."

    def state_dict(self, *args, **options):
        if sys._getframe(1).f_code.co_name == "restore":
            open(f"{self.gate}.{os.getpid()}", "w").close()
            while os.path.exists(self.gate):
                time.sleep(0.01)
        return super().state_dict(*args, **options)

class Wide(Digits):
    "So large that who joins follows before it has a seat; slow until it hurries."

    def __init__(self, options):
        self.gate = options["gate"]

    def model(self):
        made = Patient(nn.Flatten(), nn.Linear(64, 28_500), nn.ReLU(), nn.Linear(28_500, 10))
        made.gate = self.gate
        return made

    def loss(self, model, batch):
        if not os.path.exists(f"{self.gate}-hurries"):
            time.sleep(0.03)
        return super().loss(model, batch)
"""


def test_who_gives_and_who_leads_die_while_another_follows(
    three: LocalCluster, one: LocalCluster, tmp_path: Path
) -> None:
    file, gate = tmp_path / "patient.py", tmp_path / "gate"
    file.write_text(PATIENT)
    flags = [f"{file}:Wide", "--steps", "60", "--global-batch", "12", "--json", "--set"]
    (tmp_path / "open-hurries").touch()
    undisturbed = p2pnode(one, "submit", *flags, f"gate={tmp_path / 'open'}").json["job"]
    job = p2pnode(three, "submit", *flags, f"gate={gate}", "--peers", "1:3").json["job"]

    def follows(peer: LocalPeer) -> dict[str, Any]:
        """Its trainer dies; the next one has got the state, while the others go on."""
        waiting = set(tmp_path.glob("gate.*"))
        assert ask(three, "fault", kind="crash-trainer", peer=peer.id)["crashed"] == 1
        wait_job(three, job, lambda _: set(tmp_path.glob("gate.*")) > waiting)
        told = wait_job(three, job, lambda told: peer.id not in told["members"])
        return wait_job(three, job, lambda now: now["step"] >= told["step"] + 2)

    told = wait_job(three, job, lambda now: now["step"] >= 2 and len(now["members"]) == 3)
    leader = leader_of(three)
    gate.touch()
    joiner = next(p for p in three.peers if p.id == max({*told["members"]} - {leader.id}))
    giver = min(follows(joiner)["members"])
    ask(three, "fault", kind="crash-trainer", peer=giver)
    wait_job(three, job, lambda now: giver not in now["members"] and now["state"] == "running")
    gate.unlink()
    wait_job(three, job, lambda now: len(now["members"]) == 3 and now["state"] == "running")
    gate.touch()
    follows(joiner)
    leader.kill()
    told = wait_job(three, job, lambda now: leader.id not in now["members"])
    wait_job(three, job, lambda now: now["step"] >= told["step"] + 2)
    assert joiner.id not in told["members"]
    gate.with_name("gate-hurries").touch()
    gate.unlink()
    told = wait_end(three, job)
    three.restart(leader)
    assert told["state"] == "finished", told
    assert told["state_hash"] == wait_end(one, undisturbed)["state_hash"]
    assert is_exact(told)
    made = told["generations"]
    assert joiner.id in made[-1]["members"]
    assert not [each for each in made if "every trainer was lost" in each["reason"]]
    assert sum(each["steps_repeated"] for each in made) == 0


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


def test_the_readme_trains_a_model_and_asks_it(three: LocalCluster) -> None:
    """As written but for the number of steps; `make ask` makes them all."""
    serving_cluster.without_the_dead(three)
    said = {}
    for line in train_and_ask.commands(README, steps=2):
        done = train_and_ask.carry_out(three, line)
        assert done.returncode == 0, done.stdout + done.stderr
        said[line.split()[1]] = done.stdout
    assert list(said) == ["submit", "serve", "prompt", "models", "verify", "unserve"]
    assert " finished " in said["submit"]
    assert said["prompt"].strip()
    assert "BAD" not in said["verify"]


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
        return [job["state"] for job in told["jobs"] if job["kind"] == "serve"] == ["cancelled"]

    wait_for(three, "status", is_over)


@pytest.mark.usefixtures("reference")
def test_a_job_is_measured(one: LocalCluster, tmp_path: Path) -> None:
    told = ask(one, "metrics", names=["job.*", "checkpoint.*"])["series"]
    lasts = {name: series["points"][-1][-1] for name, series in told.items()}
    job = next(name.split(".")[1] for name in told if name.endswith("metric.accuracy"))
    assert lasts[f"job.{job}.step"] > 0
    assert 0 < lasts[f"job.{job}.step_s"] < 10
    assert lasts[f"job.{job}.gradient_norm"] > 0
    assert 0.5 < lasts[f"job.{job}.metric.accuracy"] <= 1.0
    assert lasts["checkpoint.bytes_per_s"] > 0
    losses = told[f"job.{job}.loss"]["points"]
    assert losses[0][2] > losses[-1][1] > 0, "the first batch's loss is a peak that stayed"
    with urllib.request.urlopen(one.peers[0].told["metrics"]) as answer:
        assert "p2p_process_rss_bytes " in answer.read().decode()
    ended = p2pnode(one, "export", "tensorboard", job, "-o", str(tmp_path), "--json")
    assert ended.json["scalars"] > 10
    assert len(list(tmp_path.glob("*/events.out.tfevents.*"))) == 1


def test_a_job_waits_for_its_peers(one: LocalCluster, reference: str) -> None:
    job = submit(one, "--peers", "2")
    told = wait_job(one, job, lambda told: told["reason"])
    assert told["state"] == "queued"
    assert "waits for 2 peers" in told["reason"]
    added = p2pnode(one, "add", "1", "--json")
    assert added.code == 0, added.err
    told = wait_end(one, job)
    assert told["state_hash"] == reference
    assert len(told["generations"][0]["members"]) == 2
    new = added.json["peers"][0]
    assert p2pnode(one, "remove", new["name"]).code == 0
    wait_for(one, "status", lambda told: len(told["peers"]) == 1)
