"""Disks without room: each peer's checkpoints lie on a small file system of their own, and ballast
fills it. What was written before stays readable there, as on any full disk.

Only root may mount; without root no disk is ever full.
"""

import contextlib
import os
import subprocess
from pathlib import Path

from tools.chaos.crew import Member

SIZE_BYTES = 32 << 20
BALLAST = "ballast"
BLOCK = bytes(1 << 20)


class Disks:
    """A context manager; what it mounted is gone afterwards, with all that lies there."""

    def __init__(self) -> None:
        self._mounted: list[Path] = []

    def __enter__(self) -> "Disks":
        return self

    def __exit__(self, *_: object) -> None:
        for folder in self._mounted:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
        self._mounted.clear()

    def prepare(self, member: Member) -> None:
        """Before it has written anything."""
        folder = checkpoints_of(member)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() != 0 or os.path.ismount(folder):
            return
        options = f"size={SIZE_BYTES},mode=700"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            self._mounted.append(folder)

    def fill(self, member: Member) -> bool:
        """To the last byte. False where that cannot be, or is so already."""
        ballast = checkpoints_of(member) / BALLAST
        if ballast.parent not in self._mounted or ballast.exists():
            return False
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(BLOCK)
        return True

    def free(self, member: Member) -> None:
        (checkpoints_of(member) / BALLAST).unlink(missing_ok=True)


def checkpoints_of(member: Member) -> Path:
    return member.folder / "checkpoints"
