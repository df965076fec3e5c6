"""How the ranks of a new group find each other: by cards in the store that torch hands us.

Cards are msgpack. Rank 0 makes the keys that encrypt what leaves the host; whoever can read the
store can join, as with every backend, so the store belongs in a network that is trusted.
"""

import os
import secrets
import shutil
import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgpack
import zmq

from collectives.plane import CurveKeys, Endpoints, host_identity
from p2p.distributed.errors import GroupError, TimedOut
from p2p.distributed.presence import ranks
from p2p.runtime_dir import base_dir

YOUNG_SECONDS = 60.0  # a folder's owner may not listen yet


class Rendezvous:
    """One rank's view of one group's cards."""

    def __init__(self, store: Any, rank: int, size: int, timeout: timedelta) -> None:
        self._store, self._rank, self._size, self._timeout = store, rank, size, timeout
        # A store may outlive a group of the same name: every `size` arrivals are one group.
        self._round = (store.add("p2p/arrivals", 1) - 1) // size

    def exchange(self, topic: str, card: Any) -> list[Any]:
        """Everybody's card on this topic, by rank. Raises TimedOut, naming who did not come."""
        self._store.set(self._key(topic, self._rank), msgpack.packb(card))
        keys = [self._key(topic, rank) for rank in range(self._size)]
        try:
            self._store.wait(keys, self._timeout)
        except RuntimeError as error:
            absent = [rank for rank, key in enumerate(keys) if not self._store.check([key])]
            if not absent:
                raise GroupError(f"the group's store failed: {error}") from error
            raise TimedOut(
                f"the group did not form within its timeout of {self._timeout.total_seconds():g} s:"
                f" {ranks(absent)} did not come"
            ) from error
        return [msgpack.unpackb(self._store.get(key)) for key in keys]

    def _key(self, topic: str, rank: int) -> str:
        return f"p2p/{self._round}/{topic}/{rank}"


def agree_on_keys(rendezvous: Rendezvous, rank: int) -> tuple[CurveKeys, bool]:
    """The group's keys, and whether all its ranks are on this host."""
    mine = [*zmq.curve_keypair(), *zmq.curve_keypair()] if rank == 0 else []
    cards = rendezvous.exchange("host", {"host": host_identity(), "keys": mine})
    public, secret, client_public, client_secret = cards[0]["keys"]
    hosts = {card["host"] for card in cards}
    return CurveKeys(public, secret, client_public, client_secret), len(hosts) == 1


def exchange_endpoints(
    rendezvous: Rendezvous, plane: Endpoints, mail: Endpoints
) -> tuple[list[Endpoints], list[Endpoints]]:
    """Where everybody's data plane and mail listen, by rank."""
    cards = rendezvous.exchange("where", [plane.to_wire(), mail.to_wire()])
    planes = [Endpoints.from_wire(card[0]) for card in cards]
    return planes, [Endpoints.from_wire(card[1]) for card in cards]


def own_address() -> str:
    """The address the other hosts reach us by: P2P_TORCH_HOST, or the one towards MASTER_ADDR."""
    if given := os.environ.get("P2P_TORCH_HOST"):
        return given
    master = os.environ.get("MASTER_ADDR", socket.gethostname())
    family, kind, protocol, _, address = socket.getaddrinfo(master, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)  # sends nothing: only asks the routing table
        return str(probe.getsockname()[0])


def private_folder() -> Path:
    """A new folder for this group's sockets; those of killed processes are removed."""
    base = base_dir()
    for old in base.glob("torch-*"):
        if _is_abandoned(old):
            shutil.rmtree(old, ignore_errors=True)
    folder = base / f"torch-{os.getpid()}-{secrets.token_hex(3)}"
    folder.mkdir(mode=0o700, parents=True)
    return folder


def _is_abandoned(folder: Path) -> bool:
    """Whether nobody listens on its sockets (a process id says nothing across containers)."""
    try:
        sockets = list(folder.iterdir())
        young = time.time() - folder.stat().st_mtime < YOUNG_SECONDS
        return not young and not any(_listens(path) for path in sockets)
    except OSError:
        return False  # it went while we looked


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
