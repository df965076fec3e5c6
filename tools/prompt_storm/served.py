"""What is asked in the storm: a small model that the cluster trains; its answers undisturbed."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2p.errors import P2PError
from tools.bench import kills
from tools.chaos.crew import Crew
from tools.prompt_storm.alone import Alone
from tools.prompt_storm.questions import CONTEXT

MODEL = {"width": "64", "layers": "2", "heads": "2", "context": str(CONTEXT)}
STEPS, SEED, WITHIN_S = 12, 5, 600.0
NAME = "storm"


def train(crew: Crew) -> dict[str, Any]:
    """The job, when it has ended. Raises P2PError."""
    sizes = {"steps": STEPS, "peers_max": 2, "global_batch": 12}
    spec = {"task": "textgpt", "name": NAME, "seed": SEED, "options": MODEL, **sizes}
    told = asyncio.run(kills.undisturbed(crew.cluster, spec, patience_s=WITHIN_S))
    if told["state"] != "finished":
        raise P2PError(f"the model was not trained: {told['reason']}")
    return told


def serve(crew: Crew, job: dict[str, Any], least: int, most: int) -> None:
    bounds = {"replicas_min": least, "replicas_max": most}
    told: dict[str, Any] = {"model": f"job:{job['id']}", "name": NAME, **bounds}
    crew.ask("serve", **told)
    crew.until(lambda: answering(crew) >= least, f"{least} replicas answer", WITHIN_S)


def answering(crew: Crew) -> int:
    """Replicas, as the log says."""
    told = crew.ask("models")
    return sum(len(model["replicas"]) for model in told["models"]) if told else 0


def alone(crew: Crew, job: dict[str, Any]) -> Alone:
    """The model that the job trained, in this process."""
    made = job["checkpoints"][-1]
    folder = crew.cluster.folder / "alone"
    folder.mkdir()
    files = [Path(shutil.copy(part["path"], folder)) for part in made["parts"]]
    spec = {"id": "alone", "task": "textgpt", "task_class": "textgpt", "options": MODEL}
    return Alone(spec, files)


def p2pnode(crew: Crew, *arguments: str) -> tuple[int, str]:
    """A command's exit code, and what it said."""
    addresses = ["--peer", ",".join(crew.addresses)]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "p2p.cli", *arguments, *addresses],
        env=crew.cluster.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def verified(crew: Crew, wanted: int, within_s: float) -> str:
    """What `p2pnode verify` says once it exits as wanted; a problem if it never does."""
    said: Sequence[Any] = ()

    def exits() -> bool:
        nonlocal said
        said = p2pnode(crew, "verify")
        return bool(said[0] == wanted)

    if not crew.until(exits, f"`p2pnode verify` exits with {wanted}", within_s):
        crew.problems.append(f"it said: {said}")
    return str(said[1])
