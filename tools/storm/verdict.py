"""After the storm: what came of each job, compared with a run in which nothing happened."""

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

import psutil
import torch
from torch import Tensor

from p2p.checkpoints.names import TEMPORARY
from p2p.local_cluster import LocalCluster
from p2p.training import checkpoint
from p2p.training.run import common
from p2p.training.state import state_hash
from tools.bench import kills
from tools.bench.contender import percentile
from tools.chaos.crew import Crew
from tools.storm.jobs import SPECS, Told

STOP_S = 8.0
TIDY_S = 10.0
CALM_S = 900.0  # on a busy machine


def references(names: Set[str]) -> dict[str, Told]:
    """What each job comes to on one peer that nobody disturbs, by name."""
    if not names:
        return {}
    with LocalCluster() as cluster:
        cluster.start()
        return {
            name: asyncio.run(
                kills.undisturbed(cluster, {**SPECS[name], "name": name}, patience_s=CALM_S)
            )
            for name in sorted(names)
        }


def problems_of(job: Told, reference: Told) -> Iterator[str]:
    who = f"{job['id']} ({job['name']})"
    if job["state"] != "finished":
        yield f"{who} {job['state']}: {job['reason']}"
        return
    if job["state_hash"] != reference["state_hash"]:
        yield f"{who} ended with {job['state_hash']}, undisturbed with {reference['state_hash']}"
    if job["ledger"] != reference["ledger"]:
        yield f"{who}: its ledger {job['ledger']} is not {reference['ledger']}"
    for row in job["ledger"]:
        if row["repeated"] or row["missing"]:
            yield f"{who}: epoch {row['epoch']} repeats or misses samples: {row}"


def lost_checkpoints(job: Told) -> Iterator[str]:
    """Each that is in the log must be on the disk, with the state that the log says."""
    torch.set_num_threads(1)
    for made in job["checkpoints"]:
        who = f"{job['id']}: the checkpoint of step {made['step']} in {made['path']}"
        tensors: dict[str, Tensor] = {}
        for part in made["parts"]:
            try:
                data = Path(part["path"]).read_bytes()
                if checkpoint.digest_of(memoryview(data)) != part["digest"]:
                    yield f"{who}: {part['path']} is not what was written"
                tensors |= checkpoint.unpack(data)[0]
            except (OSError, checkpoint.Damaged) as error:
                yield f"{who} is lost: {part['path']}: {error}"
        if state_hash(common(tensors)) != made["state_hash"]:
            yield f"{who} is not {made['state_hash']}"


def stray_files(folder: Path, jobs: Iterable[Told]) -> list[str]:
    """Parts of checkpoints in a peer's folder that no job has in the log."""
    known = {part["path"] for job in jobs for made in job["checkpoints"] for part in made["parts"]}
    return [
        f"{path} is in no job's list of checkpoints"
        for path in sorted((folder / "checkpoints").glob("*/*"))
        if str(path) not in known
    ]


def tidied(crew: Crew, jobs: Iterable[Told]) -> Iterator[str]:
    """What is not in the log, the peers remove from their disks, soon."""
    deadline_s = time.monotonic() + TIDY_S
    while left := [each for one in crew.of("up") for each in stray_files(one.folder, jobs)]:
        if time.monotonic() > deadline_s:
            yield from left
            return
        crew.watch()
        time.sleep(0.2)


def stop_all(crew: Crew) -> None:
    """Politely; then nothing of them may be there."""
    for member in crew.of("up"):
        crew.drain(member)
    deadline_s = time.monotonic() + STOP_S
    while crew.of("leaving") and time.monotonic() < deadline_s:
        crew.watch()
        time.sleep(0.1)
    for member in crew.of("leaving"):
        crew.problems.append(f"{member.name} did not end within {STOP_S:g} s of SIGTERM")
    crew.kill_all()


def left_behind(cluster: LocalCluster) -> Iterator[str]:
    """Processes of the cluster, and sockets or half-written files in its folders. Its segments have
    no names: they are gone with the last process that has one open (collectives.shm_segments).
    """
    mark = f"P2P_RUNTIME_DIR={cluster.folder}".encode()
    for process in psutil.process_iter():
        try:
            environment = Path("/proc", str(process.pid), "environ").read_bytes()
            if mark in environment and process.status() != psutil.STATUS_ZOMBIE:
                yield f"process {process.pid} is left: {' '.join(process.cmdline())}"
        except (OSError, psutil.Error):
            continue
    for path in sorted(cluster.folder.rglob("*")):
        if path.is_socket() or path.name.startswith(TEMPORARY):
            yield f"{path.relative_to(cluster.folder)} is left"


def figures(jobs: list[Told]) -> list[str]:
    """How many generations and repeated steps there were; stalls: median, p95, longest."""
    made = [each for job in jobs for each in job["generations"]]
    stalls = sorted(each["stall_seconds"] for each in made if each["stall_seconds"] is not None)
    repeated = sum(each["steps_repeated"] for each in made)
    if not stalls:
        return [str(len(made)), str(repeated), "none"]
    told = (statistics.median(stalls), percentile(stalls, 0.95), stalls[-1])
    shown = ", ".join(f"{stall_s:.2f}" for stall_s in told)
    return [str(len(made)), str(repeated), f"{shown} s"]


def keep(crew: Crew, prefix: str, texts: Mapping[str, str]) -> Path:
    """What helps to understand a failure, out of the folder that goes away: the peers' logs, what
    happened when, and files with these texts, by name."""
    kept = Path(tempfile.mkdtemp(prefix=prefix))
    for log in crew.cluster.folder.rglob("*.log"):
        shutil.copy(log, kept / f"{log.parent.parent.name}-{log.name}")
    diary = crew.diary.told(0.0, time.monotonic())
    for name, text in {**texts, "diary.txt": "\n".join([*diary, ""])}.items():
        (kept / name).write_text(text)
    return kept
