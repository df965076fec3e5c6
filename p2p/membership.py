"""How a peer as a process gets into its cluster, remembers where the others are, and leaves."""

import asyncio
import contextlib
import time
import uuid
from dataclasses import replace

from p2p.client import Client
from p2p.errors import NoQuorum, OutcomeUnknown, P2PError, Refused, Unreachable
from p2p.peer import Peer
from p2p.raft_host import ELECTION_TICKS, TICK_S, all_voters
from p2p.storage import data_dir
from p2p.storage.data_dir import Remembered
from p2p.storage.disk import Disk
from p2p.wire.client_link import WrongKey
from p2p.wire.keys import ClusterKey

DRAIN_S = 4.0
DRAIN_LEADERLESS_S = 2 * ELECTION_TICKS * TICK_S
JOIN_TIMEOUT_S = 15.0
LOST_S = 5.0
REMEMBER_EVERY_S = 1.0


class Membership:
    """`join`: addresses that were given. `stop` is set when the process shall end."""

    def __init__(
        self,
        peer: Peer,
        who: Remembered,
        folder: Disk,
        key: ClusterKey,
        join: tuple[str, ...],
        stop: asyncio.Event,
    ) -> None:
        self._peer = peer
        self._who = who
        self._folder = folder
        self._key = key
        self._join = join
        self._stop = stop
        self._remembered_s = 0.0

    async def enter(self, cluster_name: str) -> None:
        """Found (under that name), join, or come back; returns when the others know this process.

        Raises P2PError when that cannot be, or for a new peer not in time.
        """
        if self._peer.is_sole_voter:
            self._peer.raft.node.campaign()
            self._peer.advance()
        if self._peer.is_sole_voter and not self._peer.state.cluster_id:
            # New, or killed at its very first start before it had said so.
            named = {"cluster_id": self._key.cluster_id, "name": cluster_name}
            found = {"type": "cluster.found", **named}
            self._peer.propose({**found, "member": dict(self._peer.identity.member)})
            self._peer.advance()
            return
        deadline_s = time.monotonic() + JOIN_TIMEOUT_S
        while not self._stop.is_set():
            try:
                await self._ask_to_join()
                if await self._hears_of_itself() or self._stop.is_set():
                    self._remember_others()
                    return
                raise Unreachable(
                    f"the cluster took this peer in but does not reach it at {self._who.address}: "
                    "give --advertise HOST:PORT where the others reach it"
                )
            except (NoQuorum, Unreachable, OutcomeUnknown, WrongKey) as error:
                comes_back = self._peer.state.members or self._who.replaces
                if not comes_back:  # a new peer; one that comes back keeps trying
                    is_final = isinstance(error, Unreachable | WrongKey)
                    if is_final or time.monotonic() >= deadline_s:
                        raise
                elif time.monotonic() >= deadline_s:
                    return
            except Refused:
                if self.votes_on:
                    return
                # A voter may hear it before its own log says so.
                if not self._peer.is_voter or time.monotonic() >= deadline_s:
                    raise
            await asyncio.sleep(0.2)

    @property
    def votes_on(self) -> bool:
        """Removed, but the others need its vote until one of them has taken it over."""
        return self._peer.is_removed and self._peer.is_voter

    async def _hears_of_itself(self) -> bool:
        deadline_s = time.monotonic() + JOIN_TIMEOUT_S
        while not (self._peer.is_known or self._stop.is_set() or time.monotonic() >= deadline_s):
            if self._peer.raft.status.leader is not None:  # it only has much to catch up with
                deadline_s = time.monotonic() + JOIN_TIMEOUT_S
            await asyncio.sleep(TICK_S)
        return self._peer.is_known

    async def ask_while_lost(self) -> None:
        """No leader may know where we are (we came back elsewhere while it was down), or that we
        still run (we were removed while we hung): then nobody tells us, so ask.
        """
        while True:
            await asyncio.sleep(LOST_S)
            # Not "no leader": a learner that was removed believes in its last one for ever.
            lost = not (self._peer.raft.status.has_quorum_contact or self._peer.is_sole_voter)
            if lost and not self._peer.mail.drills.cuts_off:
                try:
                    await self._ask_to_join()
                except WrongKey:
                    continue  # a stranger where a peer was
                except Refused:
                    if not self._peer.is_removed:  # else it ends as soon as nobody needs its vote
                        raise
                except P2PError:
                    continue  # as lost as before

    async def _ask_to_join(self) -> None:
        others = [
            member.address
            for member in self._peer.state.members.values()
            if member.id != self._who.id and member.state != "left"
        ]
        known = [*self._join, *others, *self._who.others]
        addresses = list(dict.fromkeys([*known, self._who.address]))
        if not (self._peer.state.members or self._peer.is_sole_voter):
            addresses.remove(self._who.address)
        if not addresses:
            raise NoQuorum("this peer knows of no other yet: start it again with --join HOST:PORT")
        client = Client(addresses, self._key, timeout_s=3.0)
        member, replaces = dict(self._peer.identity.member), list(self._who.replaces)
        try:
            await client.request("join", member=member, replaces=replaces)
        finally:
            await client.close()

    def on_tick(self) -> None:
        if time.monotonic() - self._remembered_s >= REMEMBER_EVERY_S:
            self._remember_others()

    def _remember_others(self) -> None:
        """For a start after which the log cannot tell any more."""
        self._remembered_s = time.monotonic()
        if not self._peer.is_known:
            return
        voters = all_voters(self._peer.raft.status)
        members = self._peer.state.members.values()
        others = [member.address for member in members if member.id in voters - {self._who.id}]
        sole = voters == {self._who.id}
        who = replace(self._who, replaces=(), others=tuple(sorted(others)), sole_voter=sole)
        if who != self._who:
            self._who = who
            data_dir.remember(self._folder, who)

    async def leave(self) -> None:
        """Hand over leadership, shards and vote, then leave; at most DRAIN_S.

        Without a majority that cannot be agreed on: then only as long as an election takes.
        """
        self._peer.leaving = True
        self._peer.bulletins.report_now()
        led_s = began_s = time.monotonic()
        while not self._peer.has_left:
            now_s = time.monotonic()
            led_s = led_s if self._peer.raft.status.leader is None else now_s
            if now_s >= min(began_s + DRAIN_S, led_s + DRAIN_LEADERLESS_S):
                return
            with contextlib.suppress(P2PError):
                self._ask_to_leave()
            self._peer.advance()
            await asyncio.sleep(0.05)

    def _ask_to_leave(self) -> None:
        me = self._peer.state.members.get(self._who.id)
        leader = self._peer.raft.status.leader
        if me is None or me.state == "left" or leader is None:
            return
        if self._peer.raft.is_leader:
            self._peer.propose({"type": "member.leave", "peer": me.id})
        else:
            body = {"id": uuid.uuid4().hex, "verb": "leave", "args": {"peer": me.id}}
            self._peer.send(leader, "request", body)
