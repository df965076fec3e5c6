"""Three of our peers as a contender, and a client as lean as the rivals': one DEALER socket.

The public client (p2p.client) does the same and more: it finds peers, tries them in turn, and can
be cancelled; its own figure is in the table as well.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any, Self

import zmq

from p2p.client import Client
from p2p.control.autopilot import voters_wanted
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster, LocalPeer
from p2p.wire.envelope import Envelope, decode, encode
from p2p.wire.sockets import dealer
from tools.bench.contender import KEYS, VALUE, one_after_the_other

SETTLED_WITHIN_S = 60.0
ANSWER_WITHIN_S = 10.0
ASK_AGAIN_S = 0.01
QUIET_S = 1.0


class Peers:
    """See Contender."""

    name = "p2pnode"

    def __init__(self, count: int = 3) -> None:
        self._count = count

    def __enter__(self) -> Self:
        self.cluster = LocalCluster(("--slots", "0"))
        try:
            self.cluster.start()
            self.cluster.start_many(self._count - 1)
            self.settle()
        except BaseException:
            self.cluster.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.cluster.close()

    def grow_to_learners(self, count: int) -> None:
        """Start more until so many follow without a vote."""
        while self._count - voters_wanted(self._count) < count:
            self.cluster.start()
            self._count += 1
        self.settle()

    def settle(self) -> None:
        """Wait until all are in and as many vote as shall; then `leader` is the one that leads."""
        voters = voters_wanted(self._count)

        def settled(status: dict[str, Any]) -> bool:
            alive = [peer for peer in status["peers"] if peer["state"] == "alive"]
            vote = [peer for peer in alive if peer["role"] in ("voter", "leader")]
            return len(alive) == self._count and len(vote) == voters

        status = self.until(settled)
        self.leader = next(p for p in self.running if p.id == status["cluster"]["leader"])

    def until(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status that is so. Raises P2PError."""

        async def wait() -> dict[str, Any]:
            client = self.cluster.client()
            try:
                deadline_s = time.monotonic() + SETTLED_WITHIN_S
                while time.monotonic() < deadline_s:
                    status = await client.request("status")
                    if status["cluster"]["quorum"] and is_so(status):
                        return status
                    await asyncio.sleep(0.1)
            finally:
                await client.close()
            raise P2PError(f"the peers did not settle within {SETTLED_WITHIN_S:g} s: {status}")

        return asyncio.run(wait())

    @property
    def running(self) -> list[LocalPeer]:
        return [peer for peer in self.cluster.peers if peer.is_running]

    def connect(self, peer: LocalPeer) -> "Connection":
        return Connection(self.cluster, peer)

    def one_at_a_time(self, seconds: float) -> list[float]:
        with self.connect(self.leader) as connection:
            connection.put(0)  # the handshake is not part of a command
            return connection.puts(seconds)

    def in_flight(self, count: int, seconds: float) -> float:
        with self.connect(self.leader) as connection:
            for number in range(count):
                connection.send_put(number)
            done, start_s = 0, time.perf_counter()
            while time.perf_counter() < start_s + seconds:
                connection.answer()
                done += 1
                connection.send_put(done)
            return done / (time.perf_counter() - start_s)

    def with_public_client(self, seconds: float) -> list[float]:
        """As one_at_a_time, by p2p.client.Client."""

        async def drive() -> list[float]:
            taken = []
            client = Client([self.leader.address], self.cluster.key)
            try:
                await client.request("status")
                end_s = time.perf_counter() + seconds
                number, now_s = 0, time.perf_counter()
                while now_s < end_s:
                    await client.request("put", **_arguments(number))
                    then_s, now_s = now_s, time.perf_counter()
                    taken.append(now_s - then_s)
                    number += 1
            finally:
                await client.close()
            return taken

        return asyncio.run(drive())

    def kill_leader(self) -> float:
        killed = self.leader
        survivor = next(peer for peer in self.running if peer is not killed)
        with self.connect(survivor) as connection:
            connection.put(0)
            start_s = time.perf_counter()
            killed.kill()
            while not connection.try_put(1):
                time.sleep(ASK_AGAIN_S)
            taken_s = time.perf_counter() - start_s
        self.cluster.restart(killed)
        self.settle()
        time.sleep(QUIET_S)
        return taken_s


class Connection:
    """To one peer; a context manager."""

    def __init__(self, cluster: LocalCluster, peer: LocalPeer) -> None:
        self._key = cluster.key
        self._context = zmq.Context()
        self._sock = dealer(self._context, self._key)
        self._sock.immediate = False
        self._sock.rcvtimeo = int(1e3 * ANSWER_WITHIN_S)
        self._sock.connect(f"tcp://{peer.address}")
        self._name = uuid.uuid4().hex
        self._sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._sock.close(0)
        self._context.term()

    def put(self, number: int) -> None:
        self.send_put(number)
        self.answer()

    def puts(self, seconds: float) -> list[float]:
        """Seconds that each took, one after the other."""
        return one_after_the_other(self.put, seconds)

    def put_bytes(self, key: str, count: int) -> None:
        self.send("put", {"key": key, "value": bytes(count)})
        self.answer()

    def try_put(self, number: int) -> bool:
        self.send_put(number)
        return "error" not in self._receive()

    def send_put(self, number: int) -> None:
        self.send("put", _arguments(number))

    def ask(self, verb: str) -> dict[str, Any]:
        """The answer to a question without arguments. Raises P2PError."""
        self.send(verb, {})
        return self.answer()

    def send(self, verb: str, args: dict[str, Any]) -> None:
        self._sent += 1
        body = {"id": f"{self._name}-{self._sent}", "verb": verb, "args": args}
        self._sock.send(encode(Envelope(self._key.cluster_id, "bench", "", "request", body)))

    def answer(self) -> dict[str, Any]:
        """Raises P2PError when it is one, or when there is none in time."""
        body = self._receive()
        if "error" in body:
            raise P2PError(str(body["error"]))
        told: dict[str, Any] = body["ok"]
        return told

    def _receive(self) -> dict[str, Any]:
        try:
            return decode(self._sock.recv(), self._key.cluster_id).body
        except zmq.Again as error:
            raise P2PError(f"no answer within {ANSWER_WITHIN_S:g} s") from error


def _arguments(number: int) -> dict[str, Any]:
    return {"key": f"k{number % KEYS}", "value": VALUE.encode()}
