"""Two network namespaces joined by one line of limited rate. Needs root, and iproute2.

They are named after the process that made them. One that is killed cannot take them along: the next
one removes what it finds of processes that are gone.
"""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
ADDRESSES = ("10.77.0.1", "10.77.0.2")
BURST = "128kb"  # what may leave at once; small against a step's bytes
LATENCY = "20ms"  # of the queue before the line
RUN = Path("/run/netns")
PREFIX = "p2p-bench-"  # then the process id, and which end


class Line:
    """A context manager. `enter(0)` and `enter(1)` move the calling thread to that end.

    What the thread starts from then on lives there, with a view of the mounts of its own, so that
    trainers take each other for what they are to be: on two hosts.
    """

    def __init__(self, mbit_per_s: int) -> None:
        self._mbit_per_s = mbit_per_s
        self._names = tuple(f"{PREFIX}{os.getpid()}-{end}" for end in (0, 1))
        self._home = -1

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
            raise P2PError("this needs root and iproute2 (apt-get install iproute2)")
        for name in abandoned(RUN):
            _remove(name)
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def enter(self, end: int) -> None:
        with (RUN / self._names[end]).open() as namespace:
            _move(namespace.fileno())
        if _libc().unshare(CLONE_NEWNS) != 0:
            raise P2PError(f"cannot unshare the mounts: {os.strerror(ctypes.get_errno())}")

    def start_peers(self, cluster: LocalCluster) -> None:
        """One at each end. Raises P2PError."""
        for end, address in enumerate(ADDRESSES):
            self.enter(end)
            cluster.start("--listen", f"{address}:0")

    def close(self) -> None:
        if self._home >= 0:
            _move(self._home)
            os.close(self._home)
            self._home = -1
        for name in self._names:
            _remove(name)

    def limit(self, mbit_per_s: int) -> None:
        """Of each direction, from now on."""
        shape = ("rate", f"{mbit_per_s}mbit", "burst", BURST, "latency", LATENCY)
        for name in self._names:
            _do("tc", "-n", name, "qdisc", "replace", "dev", "line", "root", "tbf", *shape)

    def _make(self) -> None:
        here, there = self._names
        for name in self._names:
            _do("ip", "netns", "add", name)
            _do("ip", "-n", name, "link", "set", "lo", "up")
        _do("ip", "-n", here, "link", "add", "line", "type", "veth", "peer", "line", "netns", there)
        for name, address in zip(self._names, ADDRESSES, strict=True):
            _do("ip", "-n", name, "address", "add", f"{address}/24", "dev", "line")
            _do("ip", "-n", name, "link", "set", "line", "up")
        self.limit(self._mbit_per_s)


def abandoned(run: Path, proc: Path = Path("/proc")) -> list[str]:
    """Names of ours in that folder whose makers do not run any more."""
    found = []
    for path in sorted(run.glob(f"{PREFIX}*")):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not (proc / pid).exists():
            found.append(path.name)
    return found


def _remove(name: str) -> None:
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _do(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise P2PError(f"{' '.join(command)}: {ran.stderr.strip()}")


def _move(namespace: int) -> None:
    if _libc().setns(namespace, CLONE_NEWNET) != 0:
        raise P2PError(f"cannot enter a namespace: {os.strerror(ctypes.get_errno())}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
