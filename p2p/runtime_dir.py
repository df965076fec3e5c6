"""Which peers of this user run on this host: one folder per running peer, gone when it ends.

<base>/<peer id>/peer.json names the peer, <base>/<peer id>/*.sock are its trainers' links. The
base is $P2P_RUNTIME_DIR, else $XDG_RUNTIME_DIR/p2pnode, else p2pnode-<uid> in the temporary
folder; it is private to the user.
A folder whose process is gone (kill -9) is swept by whoever looks next.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from p2p.errors import P2PError, Usage
from p2p.wire.keys import ClusterKey, parse_token

# A Unix socket's path has 107 bytes; a trainer's socket takes 14 of them below the folder.
FOLDER_BYTES_MAX = 107 - 14


@dataclass(frozen=True, slots=True)
class RunningPeer:
    id: str
    address: str
    cluster: str
    pid: int
    started_s: float
    token_file: str

    @property
    def key(self) -> ClusterKey | None:
        return read_token(Path(self.token_file))

    @property
    def is_running(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:  # `add` made it: its parent still runs
                return False
            return bool(abs(process.create_time() - self.started_s) < 1.0)
        except psutil.Error:
            return False


def base_dir() -> Path:
    """The private folder for all of this user's peers. Raises P2PError if it is not private."""
    given = os.environ.get("P2P_RUNTIME_DIR")
    xdg = os.environ.get("XDG_RUNTIME_DIR")
    if given:
        base = Path(given)
    elif xdg and Path(xdg).is_dir():
        base = Path(xdg) / "p2pnode"
    else:
        base = Path(tempfile.gettempdir()) / f"p2pnode-{os.getuid()}"
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise P2PError(
            f"cannot use {base}: {error.strerror}; set P2P_RUNTIME_DIR to a folder of yours"
        ) from error
    if base.stat().st_uid != os.getuid():
        raise P2PError(f"{base} belongs to another user: set P2P_RUNTIME_DIR to a folder of yours")
    return base


def announce(peer_id: str, address: str, cluster: str, token_file: Path) -> Path:
    """Make this process findable; returns the peer's folder."""
    folder = base_dir() / peer_id
    if len(os.fsencode(folder.absolute())) > FOLDER_BYTES_MAX:
        raise P2PError(
            f"{folder} is too long a path for sockets: set P2P_RUNTIME_DIR, or for a demo TMPDIR, "
            "to a shorter one"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    started_s = psutil.Process().create_time()
    peer = RunningPeer(peer_id, address, cluster, os.getpid(), started_s, str(token_file))
    (folder / "peer.json").write_text(json.dumps(asdict(peer)))
    return folder


def withdraw(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.rmdir()  # the last one turns off the light
    except OSError:
        return


def running_peers(base: Path | None = None) -> list[RunningPeer]:
    """The running peers of this user, or of another `base`, lowest port first; folders of dead
    ones are removed."""
    found = []
    base = base or base_dir()
    for file in base.glob("*/peer.json"):
        try:
            peer = RunningPeer(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            continue
        if peer.is_running:
            found.append(peer)
        else:
            shutil.rmtree(file.parent, ignore_errors=True)
    if not found:
        withdraw(base / "none")
    return sorted(found, key=lambda peer: int(peer.address.rpartition(":")[2]))


def find_key(addresses: Sequence[str]) -> ClusterKey | None:
    """The key of the running peer at one of `addresses`, else of any peer of this user."""
    peers = running_peers()
    ports = {address.rpartition(":")[2] for address in addresses}
    best = [peer for peer in peers if peer.address.rpartition(":")[2] in ports]
    for peer in [*best, *peers]:
        if peer.key is not None:
            return peer.key
    return None


def read_token(path: Path) -> ClusterKey | None:
    """The key in a token file, None if there is no such file. Raises Usage if it is damaged."""
    try:
        return parse_token(path.read_text())
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, Usage) as error:
        why = error if isinstance(error, Usage) else "it is not text"
        raise Usage(f"the token file {path} is damaged: {why}") from error
    except OSError as error:
        raise Usage(f"cannot read the token file {path}: {error.strerror}") from error
