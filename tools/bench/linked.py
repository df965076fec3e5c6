"""Ranks of a benchmark on one host that meet over one kind of link, whatever they would choose."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import zmq

from collectives import operations
from collectives.exchange import Exchange
from collectives.plane import CurveKeys, DataPlane, Endpoints, Group

LINKS = ("shm", "ipc", "tcp", "curve")


def fresh_keys() -> CurveKeys:
    return CurveKeys(*zmq.curve_keypair(), *zmq.curve_keypair())


class Linked:
    """A rank's data plane. Tell the others its `plane.endpoints`, then `meet` all of them."""

    def __init__(self, link: str, rank: int, folder: str, keys: CurveKeys) -> None:
        self.link, self.rank = link, rank
        self.plane = DataPlane("127.0.0.1", folder, keys, plain_tcp=link == "tcp")
        self._members: list[Endpoints] = []

    def meet(self, members: Sequence[Endpoints]) -> None:
        """Of all ranks, in order."""
        apart = self.link in ("tcp", "curve")
        self._members = [replace(each, host="elsewhere") if apart else each for each in members]

    def enter(self, generation: int = 1, alone: bool = False) -> Group:
        rank, members = (0, [self.plane.endpoints]) if alone else (self.rank, self._members)
        with _algorithms_of(self.link):
            return self.plane.enter("bench", generation, rank, members)


@contextmanager
def _algorithms_of(link: str) -> Iterator[None]:
    """A group takes what there is when it is entered."""
    every = operations.ALGORITHMS
    operations.ALGORITHMS = every if link == "shm" else [Exchange]
    try:
        yield
    finally:
        operations.ALGORITHMS = every
