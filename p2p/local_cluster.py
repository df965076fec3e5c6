"""Peers as processes on this host, in one temporary folder: for demo, tests and benchmarks.

Everything is inside the folder (data directories, sockets, logs) and goes with it; the peers die
with the process that started them.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_folder import LocalFolder
from p2p.processes import open_peer
from p2p.runtime_dir import read_token, running_peers
from p2p.wire.keys import ClusterKey

STOP_TIMEOUT_S = 8.0
JOIN_THROUGH_MAX = 5


@dataclass
class LocalPeer:
    """One started peer. `told` is what it announced: id, name, address, token_file, …"""

    process: "subprocess.Popen[bytes]"
    told: dict[str, Any]
    log: Path

    @property
    def id(self) -> str:
        return str(self.told["id"])

    @property
    def address(self) -> str:
        return str(self.told["address"])

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """kill -9, and wait for the end of this process only."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM; returns the exit code. Kills it, and raises P2PError, if it does not drain."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise P2PError(
                f"{self.told['name']} did not stop within {STOP_TIMEOUT_S:g} s"
            ) from None


class LocalCluster:
    """A context manager: on leaving, every peer it started is gone and so is the folder; those
    that its peers started (`p2pnode add`), too.

    The kernel ends a peer with the *thread* that started it: call `start` from one that lives on.
    """

    def __init__(self, arguments: tuple[str, ...] = ("--allow-faults",)) -> None:
        self._folder = LocalFolder()
        self.folder = self._folder.path
        self.peers: list[LocalPeer] = []
        self._arguments = arguments

    def __enter__(self) -> "LocalCluster":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def environment(self) -> dict[str, str]:
        """For programs that shall find these peers and no others."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("P2P_")}
        own = {"P2P_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data"}
        return {**kept, **{name: str(self.folder / folder) for name, folder in own.items()}}

    @property
    def key(self) -> ClusterKey:
        asked = [peer for peer in self.peers if peer.is_running] or self.peers
        key = read_token(Path(asked[0].told["token_file"]))
        assert key is not None
        return key

    def start(self, *arguments: str, data_dir: Path | None = None) -> LocalPeer:
        """Start one more peer (the first founds, the others join) and wait until it is in."""
        return self.start_many(1, *arguments, data_dir=data_dir)[0]

    def start_many(
        self, count: int, *arguments: str, data_dir: Path | None = None, names: str = ""
    ) -> list[LocalPeer]:
        """Start several at the same time and wait until all are in. `names`: a letter for each."""
        started = [
            self._open((*arguments, *_called(names[at : at + 1])), data_dir, at + 1)
            for at in range(count)
        ]
        return self._await([LocalPeer(process, {}, log) for process, log in started])

    def _await(self, peers: list[LocalPeer]) -> list[LocalPeer]:
        self.peers += peers  # so that all of them end with us, even if one does not get in
        for peer in peers:
            peer.told = _announcement(peer.process, peer.log)
        return peers

    def _open(
        self, arguments: tuple[str, ...], data_dir: Path | None, number: int
    ) -> tuple["subprocess.Popen[bytes]", Path]:
        folder = data_dir or self.folder / f"peer-{len(self.peers) + number}"
        given = ["--json", "--data-dir", str(folder), *self._arguments, *arguments]
        running = [peer for peer in self.peers if peer.is_running]
        if running and data_dir is None:
            given += ["--join", ",".join(peer.address for peer in running[:JOIN_THROUGH_MAX])]
            given += ["--token-file", str(running[0].told["token_file"])]
        if not (folder / "peer.json").exists() and "--listen" not in arguments:
            given += ["--listen", "127.0.0.1:0"]
        log = self.folder / f"{folder.name}.log"
        return open_peer(given, log, self.environment), log

    def restart(self, *peers: LocalPeer) -> list[LocalPeer]:
        """Start peers again that have ended, with their data directories, and wait for all.

        At the same time: the first of a majority gets in only when the others come.
        """
        started = [self._open((), Path(peer.told["data_dir"]), 0) for peer in peers]
        return self._await([LocalPeer(process, {}, log) for process, log in started])

    def client(self, timeout_s: float = 20.0) -> Client:
        """Create and use it inside a running event loop."""
        running = [peer.address for peer in self.peers if peer.is_running]
        return Client(running, self.key, timeout_s)

    def close(self) -> None:
        added = self._added()
        for peer in self.peers:
            if peer.is_running:
                peer.process.send_signal(signal.SIGTERM)
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        _end(added, STOP_TIMEOUT_S)
        for peer in self.peers:
            try:
                peer.process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                peer.kill()
            if peer.process.stdout is not None:
                peer.process.stdout.close()
        self._folder.remove()

    def _added(self) -> list[psutil.Process]:
        own = {peer.process.pid for peer in self.peers}
        running = running_peers(Path(self.environment["P2P_RUNTIME_DIR"]))
        found = []
        for pid in {peer.pid for peer in running} - own:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found


def _end(processes: list[psutil.Process], timeout_s: float) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=timeout_s)
    for process in left:
        process.kill()


def _called(name: str) -> tuple[str, ...]:
    return ("--name", name) if name else ()


def _announcement(process: "subprocess.Popen[bytes]", log: Path) -> dict[str, Any]:
    """The JSON line that a peer prints once it is in. Raises P2PError with its last message."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), True)
    line = process.stdout.readline()
    if not line:
        process.stdout.close()
        code = process.wait()
        said = log.read_text().strip().splitlines()
        raise P2PError(f"a peer ended with {code}: {said[-1] if said else 'it said nothing'}")
    told: dict[str, Any] = json.loads(line)
    return told
