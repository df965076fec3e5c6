"""The promise, with real processes: kill, join, leave, pause – the same bits, every sample once."""

import hashlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from p2p.local_cluster import LocalCluster, LocalPeer
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

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
EPOCHS = 8
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


def test_auto_begins_with_what_keeps_the_bits(three: LocalCluster, reference: str) -> None:
    """Its trainers compare times at marks; a switch comes after half a minute at the earliest."""
    told = wait_end(three, submit(three, "--strategy", "auto"))
    assert (told["state"], told["auto"]) == ("finished", True), told
    assert is_exact(told)
    methods = {(made["strategy"], made["codec"]) for made in told["generations"]}
    assert ("ring", "int32") in methods
    if len(methods) == 1:
        assert told["state_hash"] == reference


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
