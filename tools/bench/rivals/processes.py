"""Processes of rivals: each in a session of its own, as our peers, for the kernel shares processors
by session; they die with us."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from p2p.training.death import die_with

ROOT = Path(__file__).parents[3]
Process = subprocess.Popen[bytes]


def start(command: Sequence[str], log: Path, settings: Mapping[str, str] | None = None) -> Process:
    """What it prints goes to the end of `log`; `settings`: environment beside our own."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(settings or {})},
            start_new_session=True,
            preexec_fn=partial(die_with, os.getpid()),
        )
