"""What p2p.host and p2p.membership do around a peer: tick, enter, ask when lost, drain."""

import contextlib
from typing import TYPE_CHECKING, Any

from p2p.errors import P2PError
from p2p.peer import Peer
from p2p.raft_host import TICK_S
from p2p.wire.envelope import Envelope, Malformed, decode, encode
from tools.sim.parameters import SECOND

if TYPE_CHECKING:
    from tools.sim.host import Host

ASK_EVERY = 3 * SECOND // 10
JOIN_TIMEOUT = 15 * SECOND
LOST = 5 * SECOND
DRAIN = 4 * SECOND
DRAIN_EVERY = SECOND // 20
REFUSED = 4  # exit code: removed, so never again


class Process:
    """One incarnation. Everything it schedules ends with it."""

    def __init__(self, host: "Host", peer: Peer) -> None:
        self.host = host
        self.peer = peer
        self.incarnation = host.incarnation
        self._tick = host.clock.microseconds(TICK_S)
        self._asked = 0
        self._begun = host.world.now
        self._entered = False
        self._since_drain: int | None = None

    def begin(self) -> None:
        peer = self.peer
        peer.advance()
        self.later(self.host.rng.randint(0, self._tick), self._ticks)
        if peer.is_sole_voter:
            peer.raft.node.campaign()
            peer.advance()
        if peer.is_sole_voter and not peer.state.cluster_id:
            found = {"type": "cluster.found", "cluster_id": peer.identity.cluster, "name": "sim"}
            peer.propose({**found, "member": dict(peer.identity.member)})
            peer.advance()
        self._enter()

    def later(self, delay: int, action: Any) -> None:
        host = self.host
        host.world.after(
            host.spent + delay,
            lambda: host.call(action) if host.incarnation == self.incarnation else None,
        )

    def _ticks(self) -> None:
        """asyncio.sleep between ticks: who was stopped does not catch up on lost ones."""
        self.later(self._tick, self._ticks)
        self.peer.on_tick()
        if self.host.trainers is not None and self.host.world.parameters.jobs:
            peer, may_finish = self.peer, self.host.world.jobs_may_finish
            now_s = self.host.clock.monotonic_s()
            self.host.trainers.play(peer.on_trainer, peer.on_trainer_exit, may_finish, now_s)
        if self.peer.is_removed and not self._votes_on and self._since_drain is None:
            self.drain()

    # -- coming ------------------------------------------------------------------------------------

    def _enter(self) -> None:
        if self.peer.is_known or self._votes_on:
            self._entered = True
            self.later(LOST, self._look)
            return
        self._ask()
        self.later(ASK_EVERY, self._enter)

    def _look(self) -> None:
        self.later(LOST, self._look)
        if not (self.peer.raft.status.has_quorum_contact or self.peer.is_sole_voter):
            self._ask()

    def _ask(self) -> None:
        """Ask somebody to be let in; an answer is only looked at when it refuses for good."""
        world = self.host.world
        known = [m.address for m in self.peer.state.members.values() if m.state != "left"]
        known += [host.address for host in world.up()]
        address = self.host.rng.choice(sorted(set(known)))
        self._asked += 1
        request = f"join-{self.host.name}-{self.incarnation}-{self._asked}"
        args: dict[str, Any] = {"member": dict(self.peer.identity.member)}
        args["replaces"] = list(self.host.replaces)
        body = {"id": request, "verb": "join", "args": args}
        data = encode(Envelope(self.peer.identity.cluster, "client", "", "request", body))
        world.network.ask(f"ask-{self.host.name}", address, data, self._on_answer)

    def _on_answer(self, data: bytes) -> None:
        host = self.host
        if host.incarnation != self.incarnation:
            return
        try:
            body = decode(data, self.peer.identity.cluster).body
        except Malformed:
            return
        if body.get("exit_code") == REFUSED:
            host.call(lambda: self._refused(body["error"]))

    @property
    def _votes_on(self) -> bool:
        return self.peer.is_removed and self.peer.is_voter

    def _refused(self, why: str) -> None:
        """A voter that comes back may hear it before its own log says so; then it votes on."""
        late = self.host.world.now - self._begun > JOIN_TIMEOUT
        if self._entered or late or not self.peer.is_voter:
            self.host.world.retire(self.host, f"refused: {why}")

    # -- going -------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Hand over leadership and vote, then leave; at most DRAIN."""
        self._since_drain = self.host.world.now
        self.peer.leaving = True
        self.peer.bulletins.report_now()
        self._drain()

    def _drain(self) -> None:
        assert self._since_drain is not None
        world = self.host.world
        if self.peer.has_left or world.now - self._since_drain > DRAIN:
            world.left(self.host, removed=self.peer.is_removed)
            return
        with contextlib.suppress(P2PError):
            self._ask_to_leave()
        self.peer.advance()
        self.later(DRAIN_EVERY, self._drain)

    def _ask_to_leave(self) -> None:
        peer = self.peer
        me = peer.state.members.get(self.host.name)
        leader = peer.raft.status.leader
        if me is None or me.state == "left" or leader is None:
            return
        if peer.raft.is_leader:
            peer.propose({"type": "member.leave", "peer": me.id})
        else:
            self._asked += 1
            request = f"leave-{self.host.name}-{self.incarnation}-{self._asked}"
            body = {"id": request, "verb": "leave", "args": {"peer": me.id}}
            peer.send(leader, "request", body)
