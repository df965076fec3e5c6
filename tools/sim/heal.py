"""The liveness phase: no more faults, and within a bound the cluster must be whole again."""

from collections.abc import Callable
from typing import Any

from p2p.wire.envelope import Envelope, decode, encode
from tools.sim.client import CLUSTER
from tools.sim.host import Host
from tools.sim.operators import remedy
from tools.sim.parameters import SECOND
from tools.sim.requests import ask
from tools.sim.violation import Violation
from tools.sim.world import World

GRACE = 40 * SECOND
ROUND_TRIPS_PER_ENTRY = 6  # what one entry per append and one append in flight may cost
LOOK_EVERY = SECOND // 4
KEY = "healed"


class Heal:
    """Waits for one leader, members that agree on everything, and a write that is read back."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._asked = 0
        self._then: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._wrote: bytes | None = None
        self._read: Any = None

    def run(self) -> int:
        """Returns the simulated time it took. Raises Violation when it takes too long."""
        begun = self.world.now
        longest = max(host.durable.log.last for host in self.world.hosts.values())
        round_trip = 2 * self.world.parameters.delay
        bound = GRACE + ROUND_TRIPS_PER_ENTRY * round_trip * longest
        while (why := self._missing()) is not None:
            if self.world.now - begun > bound:
                raise Violation("18 liveness", f"{bound // SECOND} s after the last fault, {why}.")
            self.world.run_until(self.world.now + LOOK_EVERY)
        for job in self.world.leaders()[0].state().jobs.values():
            self.world.counts[f"jobs {job.state}"] += 1
            self.world.counts["generations"] += job.generation.number if job.generation else 0
        self.world.counts["writes read back after the faults"] += 1
        return self.world.now - begun

    def _missing(self) -> str | None:
        leaders = self.world.leaders()
        if len(leaders) != 1:
            return f"{len(leaders)} peers lead: {', '.join(h.name for h in leaders) or 'nobody'}"
        leader = leaders[0]
        conf = leader.halves(), sorted(leader.learners())
        for host in self.world.up():
            assert host.peer is not None
            if not host.peer.is_known:
                return f"{host.name} is no member"
            if host.log.chain[-1] != leader.log.chain[-1] or host.log.last != leader.log.last:
                return f"the logs of {host.name} and {leader.name} differ"
            if host.applied < leader.log.last:
                return f"{host.name} has not applied {leader.log.last}"
            if (host.halves(), sorted(host.learners())) != conf:
                return f"{host.name} and {leader.name} differ in the configuration"
            if host.state() != leader.state():
                return f"{host.name} and {leader.name} differ in the state"
        running = [job for job in leader.state().jobs.values() if not job.is_final]
        for job in running:
            verb = remedy(job)
            if verb is not None:
                ask(leader, verb, job=job.id)
        if running:
            return f"{running[0].id} is not over: {running[0].state}, {running[0].reason}"
        return self._write_and_read(leader)

    def _write_and_read(self, leader: Host) -> str | None:
        if self._wrote is None:
            self._ask("put", {"key": KEY, "value": b"%d" % self._asked}, self._put)
            return "a new write is not acknowledged"
        if self._read != self._wrote:
            self._ask("get", {"key": KEY}, self._got)
            return f"{self._wrote!r} was written, {self._read!r} is read"
        return None

    def _put(self, body: dict[str, Any]) -> None:
        number = int(body["id"].removeprefix("heal-"))
        if "ok" in body and number > int(self._wrote or b"-1"):
            self._wrote = b"%d" % number

    def _got(self, body: dict[str, Any]) -> None:
        self._read = body["ok"]["value"] if "ok" in body else body["error"]

    def _ask(self, verb: str, args: dict[str, Any], then: Callable[[dict[str, Any]], None]) -> None:
        body = {"id": f"heal-{self._asked}", "verb": verb, "args": args}
        self._then[f"heal-{self._asked}"] = then  # answers may come late, and twice
        self._asked += 1
        data = encode(Envelope(CLUSTER, "healer", "", "request", body))
        up = self.world.up()
        host = up[self._asked % len(up)]
        self.world.network.ask(
            "healer", host.address, data, lambda reply: self._heard(decode(reply, CLUSTER).body)
        )

    def _heard(self, body: dict[str, Any]) -> None:
        self._then[body["id"]](body)
