"""A peer's data directory: who it is, its cluster's key, its log, its checkpoints.

lock         held while the peer runs
peer.json    id, name, address, cluster; where others are
token        the cluster's token, readable by the owner only
wal-…        the write-ahead log, in segments; raft.mark says what of it was synced
snapshot-…   the state up to some entry; the log goes on from there
damaged-…    logs that were found damaged, by the second (Unix time) in which that was
recovery.json  which of those `recover` is building a log from; gone when it is there
content/     files by their SHA-256, from other peers (p2p.content)
datasets/    copies of datasets, made of those files
checkpoints/ sources/ logs/ added/
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from p2p.errors import P2PError, Refused
from p2p.settings import data_home
from p2p.storage.disk import Disk, Folder, Locked
from p2p.wire.keys import ClusterKey, parse_token

IDENTITY_NAME = "peer.json"
TOKEN_NAME = "token"
DEFAULT_DIRS_MAX = 100


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a peer keeps of itself between runs.

    replaces: ids it had before its log was lost, until the cluster knows. others: addresses of
    voters to ask when the log cannot tell. sole_voter: whether nobody else could have voted.
    founding: nobody has heard of this peer yet, for its cluster's first log is not durable.
    listen: where it listens, if others reach it elsewhere (--advertise).
    """

    id: str
    name: str
    address: str
    cluster: str
    replaces: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    sole_voter: bool = False
    founding: bool = False
    listen: str = ""


def open_data_dir(given: str | None, cluster: str | None) -> Folder:
    """The given folder, or the first free of the user's own, in order, that may serve `cluster`.

    `cluster` is the one to be joined; None when founding or coming back.
    Raises Locked, DiskFailed, or Refused when the given folder is another cluster's.
    """
    if given is not None:
        folder = Folder(Path(given).expanduser().absolute())
        try:
            known = recall(folder)
        except P2PError:
            folder.close()
            raise
        if known is not None and cluster is not None and known.cluster != cluster:
            folder.close()
            raise Refused(
                f"{folder.path} belongs to a peer of cluster {known.cluster}, not {cluster}: "
                "give another --data-dir, or leave --join out to come back to that cluster"
            )
        return folder
    for number in range(1, DEFAULT_DIRS_MAX):
        try:
            folder = Folder(data_home() / f"peer-{number}")
        except Locked:
            continue
        known = recall(folder)
        if known is None or cluster is None or known.cluster == cluster:
            return folder
        folder.close()
    raise P2PError(f"{DEFAULT_DIRS_MAX} peers' folders in {data_home()} are taken: give --data-dir")


def recall(folder: Folder) -> Remembered | None:
    """Who this folder belongs to; None if it is new. Raises P2PError if it cannot be read."""
    data = folder.read(IDENTITY_NAME)
    if data is None:
        return None
    try:
        told = json.loads(data)
        lists = {name: tuple(told.get(name, ())) for name in ("replaces", "others")}
        return Remembered(**{**told, **lists})
    except (ValueError, TypeError, AttributeError) as error:
        raise P2PError(
            f"{folder.path / IDENTITY_NAME} is damaged: start with an empty --data-dir"
        ) from error


def remember(folder: Disk, who: Remembered) -> None:
    folder.replace(IDENTITY_NAME, json.dumps(asdict(who)).encode())


def forget_others(folder: Folder) -> None:
    """This peer goes on alone."""
    who = recall(folder)
    if who is not None:
        remember(folder, replace(who, replaces=(), others=(), sole_voter=True))


def load_key(folder: Folder) -> ClusterKey:
    data = folder.read(TOKEN_NAME)
    if data is None:
        raise P2PError(f"{folder.path / TOKEN_NAME} is missing: start with an empty --data-dir")
    return parse_token(data.decode(errors="replace"))


def save_key(folder: Folder, key: ClusterKey) -> None:
    folder.replace(TOKEN_NAME, f"{key.token}\n".encode())


def discard_if_unused(folder: Folder) -> None:
    """Leave nothing behind of a start that failed before the peer became somebody."""
    if folder.read(IDENTITY_NAME) is None and folder.names() == ["lock"]:
        (folder.path / "lock").unlink()
        with contextlib.suppress(OSError):  # the user's folder may hold other things
            folder.path.rmdir()


def is_default(folder: Folder) -> bool:
    """Whether it is one of those that `p2pnode` without --data-dir looks through."""
    return folder.path.parent == data_home().absolute()


def token_path(folder: Folder) -> Path:
    return folder.path / TOKEN_NAME


def make_subfolders(folder: Folder) -> None:
    for name in ("checkpoints", "datasets", "sources", "logs"):
        (folder.path / name).mkdir(mode=0o700, exist_ok=True)
    os.chmod(folder.path, 0o700)
