"""What the nemesis asks of a peer."""

from functools import partial
from typing import Any

from p2p.errors import NoQuorum
from p2p.wire.envelope import Envelope, encode
from tools.sim.client import CLUSTER
from tools.sim.host import Host


def ask(host: Host, verb: str, **args: Any) -> None:
    """As an operator would; nobody waits for the answer."""
    world = host.world
    world.counts["requests of operators"] += 1
    request = f"op-{world.counts['requests of operators']}"
    body = {"id": request, "verb": verb, "args": args}
    data = encode(Envelope(CLUSTER, "operator", "", "request", body))
    world.network.ask("operator", host.address, data, lambda reply: None)


def junk(host: Host, count: int) -> None:
    """Entries that change nothing: what is checked is their order, and that none is lost."""
    for _ in range(count):
        host.call(partial(_propose, host))


def read(host: Host) -> None:
    """A linearizable read that nobody waits for: what counts is what it may be confirmed at."""

    def begin() -> None:
        assert host.peer is not None
        host.peer.raft.read_barrier(lambda confirmed: None)
        host.peer.advance()

    host.call(begin)


def _propose(host: Host) -> None:
    host.world.counts["junk"] += 1
    assert host.peer is not None
    try:
        host.peer.propose({"type": "junk", "number": host.world.counts["junk"]})
    except NoQuorum:
        host.world.counts["junk dropped"] += 1
