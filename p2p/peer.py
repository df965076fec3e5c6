"""One peer: joins consensus, planners, trainers and requests. No socket, disk or clock of its own.

Everything it touches comes in through its constructor, so the same code runs on real parts and on
their in-memory twins. Data flows one way: message → core → effects. What comes in is only taken in;
one advance() then serves everything that came in until then, so many proposals share one sync.
"""

from collections.abc import Mapping
from typing import Any

from consensus.changes import SnapshotMeta
from consensus.messages import Message, MessageType
from consensus.wire import MalformedMessage, as_list
from p2p import view
from p2p.bulletins import Bulletins
from p2p.checkpoints.copies import CheckpointCopies
from p2p.control.controller import GRACE_S
from p2p.control.leadership import Leadership
from p2p.control.standing import may_end
from p2p.data_desk import DataDesk
from p2p.fetching import Fetching
from p2p.hearing import Hearing
from p2p.measure.measures import Measures
from p2p.parts import Identity, Parts
from p2p.raft_host import TICK_S, RaftHost, all_configured, all_voters, is_configured
from p2p.replicas.desk import ReplicaDesk
from p2p.replicated.apply import apply
from p2p.replicated.state import State
from p2p.requests import Asked, Requests
from p2p.routing.desk import RoutingDesk
from p2p.serving.checking import Malformed as Unclear
from p2p.storage.snapshot_desk import SnapshotDesk
from p2p.succession import Succession
from p2p.trainer_desk import TrainerDesk
from p2p.watch.desk import WatchDesk
from p2p.wire.addresses import is_address
from p2p.wire.envelope import Envelope, Malformed
from p2p.wire.links import Links
from p2p.wire.mail import Mail
from p2p.wire.network import Route

TICKS_AT_ONCE_MAX = 3


class Peer:
    def __init__(self, identity: Identity, parts: Parts) -> None:
        self.identity = identity
        self.parts = parts
        self.state = State()
        self.leaving = False
        self.mail = Mail(identity, parts, self._take_in)
        self.links = Links(identity.id, parts.network)
        self.requests = Requests(self)
        self.bulletins = Bulletins(self)
        self.measures = Measures(self)
        self.raft = RaftHost(
            identity.id,
            parts.store,
            parts.rng,
            self._send_raft,
            self._on_command,
            parts.call_later,
            parts.make_node,
            on_applied=lambda: self.snapshots.on_applied(self.state),
            on_snapshot=self._on_snapshot,
            send_snapshot=lambda message: self.snapshots.offer(message),
        )
        self.snapshots = SnapshotDesk(
            parts.store,
            parts.clock,
            parts.call_later,
            parts.snapshots,
            self._send_snapshot,
            self.raft,
        )
        self.state = self.snapshots.stored()
        self.fetching = Fetching(identity.id, parts.content, parts.clock, self._look)
        self.data = DataDesk(
            *(parts.data_dir, parts.content, self.fetching, parts.workers, self._look)
        )
        self.desk = TrainerDesk(
            *(parts.workplace, parts.children, parts.new_id, self.bulletins.report_now),
            *(parts.shelf, self.data, self.measures.on_trainer),
        )
        self.routing = RoutingDesk(self)
        self.replicas = ReplicaDesk(
            *(parts.workplace, parts.children, self.fetching, parts.new_id),
            *(self._replicas_changed, self.routing.say, parts.free_bytes, parts.gather),
        )
        self.copies = CheckpointCopies(
            *(identity.id, parts.content, self.fetching, self.desk.shelf, self.desk)
        )
        self.leadership = Leadership(
            self.raft, parts.clock, self.propose, self.bulletins.report, identity.id
        )
        self.hearing = Hearing(identity.id, parts.clock)
        self.watch = WatchDesk(self, parts.rules, parts.notify)
        self.succession = Succession(self)
        self._leader: str | None = None
        self._led_term = 0  # of the last leader that was known
        self._ticked_s = parts.clock.monotonic_s()
        self._awake = False  # an advance() is on its way
        self._news = True  # something besides the log that planners look at
        self._seen: tuple[object, ...] = ()  # what they saw of the log the last time

    # -- what happens ---------------------------------------------------------------------------

    def on_tick(self) -> None:
        """Call about every TICK_S; a peer that was stopped must not rush to campaign."""
        now_s = self.parts.clock.monotonic_s()
        self.hearing.on_tick()
        elapsed_s = now_s - self._ticked_s
        if elapsed_s > TICKS_AT_ONCE_MAX * TICK_S:
            self.leadership.overslept(elapsed_s)
        due = round(elapsed_s / TICK_S)
        ticks = min(due, TICKS_AT_ONCE_MAX)
        if ticks:
            self._ticked_s = now_s if due > ticks else self._ticked_s + ticks * TICK_S
            self.raft.tick(ticks)
        self.measures.on_tick(now_s)
        self.bulletins.on_tick(now_s)
        self.snapshots.on_tick(self.state)
        self.watch.on_tick(now_s)
        self.replicas.on_tick(now_s)
        self.routing.on_tick(now_s)
        self._look()

    def on_message(self, data: bytes, route: Route | None) -> None:
        self.mail.on_message(data, route)

    def on_link(self, peer: str, up: bool) -> None:
        self.leadership.on_link(peer, up)
        self.measures.on_link(peer, up)
        self.routing.on_link(peer, up)
        if up:
            self.bulletins.report_now()
            self.succession.stand_with(peer)
            self._look()
            return
        self.raft.node.report_unreachable(peer)
        self.snapshots.on_link_lost(peer)
        if peer == self.raft.status.leader and not self.raft.is_leader:
            self.raft.forget_leader(peer)
            self._note_leader()  # at once: its last words may be read next, as if it led still
        # Plan again when the grace is over; until then it may be a hiccup.
        self.parts.call_later(GRACE_S + 0.002, self._look)
        self._look()

    def on_trainer(self, child: str, message: dict[str, Any]) -> None:
        try:
            if self.replicas.has(child):  # what it says at every token concerns no planner
                self.replicas.on_message(child, message, self.parts.clock.monotonic_s())
                return
            self.desk.on_message(child, message, self.parts.clock.monotonic_s())
        except (Malformed, Unclear):
            self.mail.dropped += 1
        self._look()

    def on_trainer_exit(self, child: str, how: str) -> None:
        desk = self.replicas if self.replicas.has(child) else self.desk
        desk.on_exit(child, how, self.parts.clock.monotonic_s())
        self._look()

    def on_trainer_status(self, child: str, how: str) -> None:
        if not self.replicas.on_status(child, how):
            self.desk.on_status(child, how)
        self._look()

    def advance(self) -> None:
        """Let agreement, planners and agent catch up, at once, with whatever just happened."""
        self._news = True
        self._advance()
        while self.raft.has_more:
            self._advance()

    # -- what it says ---------------------------------------------------------------------------

    def propose(self, command: Mapping[str, Any]) -> int:
        """Append to the log; returns the index. Raises NoQuorum when this peer does not lead."""
        self._wake()
        began_s = self.parts.clock.monotonic_s()
        index = self.raft.propose({**command, "at_s": self.parts.clock.unix_s()})
        self.measures.proposed(index, began_s)
        return index

    def send(self, peer: str, kind: str, body: dict[str, Any]) -> bool:
        return self.mail.send(peer, kind, body)

    def raft_view(self) -> view.RaftView:
        status = self.raft.status
        age_s = self.parts.clock.monotonic_s() - self.hearing.leader_s
        return view.RaftView(
            self_id=self.identity.id,
            term=status.term,
            leader=status.leader,
            quorum=status.has_quorum_contact,
            commit_index=status.commit,
            applied_index=self.raft.applied,
            # A vote counts for what a user relies on when the joint change is left behind.
            voters=frozenset(status.voters_outgoing or status.voters),
            age_s=0.0 if self.raft.is_leader else age_s,
        )

    @property
    def has_left(self) -> bool:
        """Whether nothing depends on this peer any more, so that it may end."""
        may = may_end(self.identity.id, self.state, all_voters(self.raft.status))
        return may and not self.replicas.is_answering

    @property
    def is_known(self) -> bool:
        """Whether the log names this very process as a member."""
        me = self.state.members.get(self.identity.id)
        return me is not None and me.incarnation == self.identity.incarnation

    @property
    def is_voter(self) -> bool:
        return self.identity.id in all_voters(self.raft.status)

    @property
    def is_sole_voter(self) -> bool:
        return all_voters(self.raft.status) == {self.identity.id}

    @property
    def is_removed(self) -> bool:
        return self.identity.id in self.state.removed

    # -- inside ---------------------------------------------------------------------------------

    def _replicas_changed(self) -> None:
        self.bulletins.report_now()
        self._look()

    def _wake(self) -> None:
        """One advance() soon, when everything that has arrived was taken in."""
        if not self._awake:
            self._awake = True
            self.parts.call_later(0.0, self._advance_if_awake)

    def _look(self) -> None:
        """The same, and the planners look again: time passed, or something besides the log."""
        self._news = True
        self._wake()

    def _advance_if_awake(self) -> None:
        if self._awake:
            self._advance()

    def _advance(self) -> None:
        self._awake = False
        self.raft.pump()
        self._note_leader()
        if self._news or self._seen != self._sight():
            self._news = False
            self._plan()
        for peer in self.links.follow(self.state.members, self.raft.status, self._answering()):
            self.leadership.on_link(peer, True)  # that it was down says nothing any more
        self._awake = False  # what was proposed meanwhile is served
        # A sole voter applies at once what it has planned.
        if self.raft.has_more or self._seen != self._sight():
            self._wake()

    def _plan(self) -> None:
        self._seen = self._sight()
        self.leadership.plan(self.state)
        self.raft.pump()
        now_s = self.parts.clock.monotonic_s()
        self.desk.act(self.state, now_s, self.leaving)
        self.copies.act(self.state)
        self.replicas.act(self.state, now_s, self.leaving)
        self.routing.follow()
        if self.raft.status.has_quorum_contact:
            # From when the leader was heard: it declares nobody dead before that lease is over.
            self.desk.lease(self.hearing.led_from_s(self.raft.status), now_s)

    def _answering(self) -> frozenset[str]:
        """The peers that answer prompts."""
        served = self.state.services.values()
        known = frozenset(replica.peer for service in served for replica in service.replicas)
        return known | self.routing.entrusted

    def _sight(self) -> tuple[object, ...]:
        """What the planners look at and the log decides; compared, mostly by identity."""
        state, status = self.state, self.raft.status
        return (
            *(state.members, state.removed, state.jobs, state.datasets, state.services),
            *(status.voters, status.voters_outgoing, status.learners),
            *(status.leader, self.leadership.is_settled),
        )

    def _take_in(self, envelope: Envelope, route: Route | None) -> None:
        try:
            self._dispatch(envelope, route)
        except (Malformed, MalformedMessage, Unclear):
            self.mail.dropped += 1
        if envelope.kind not in ("prompt", "stream"):
            self._wake()

    def _dispatch(self, envelope: Envelope, route: Route | None) -> None:
        body = envelope.body
        if envelope.sender == self.identity.id:
            raise Malformed("from ourselves")
        if envelope.kind in ("raft", "snapshot") and self._is_gone(envelope.sender):
            raise Malformed("from a peer that was removed")
        match envelope.kind:
            case "raft":
                self._on_raft(envelope.sender, body)
            case "snapshot":
                self.snapshots.on_message(envelope.sender, body)
            case "report":
                self._news |= self.bulletins.on_report(envelope.sender, body)
            case "digest":
                self.bulletins.on_digest(envelope.sender, body)
            case "request" if route is not None:
                self.requests.handle(Asked.parse(envelope, route))
            case "reply":
                self.requests.on_reply(body)
            case "prompt" if route is not None:
                self.routing.on_prompt(body, route)
            case "stream":
                self.routing.on_stream(body)

    def _on_raft(self, sender: str, body: Mapping[str, Any]) -> None:
        if not is_address(body.get("address")):
            raise Malformed("a peer without an address")
        messages = [Message.from_wire(fields) for fields in as_list(body.get("messages"), "raft")]
        if any(message.type is MessageType.SNAP for message in messages):
            raise Malformed("a snapshot without its data")  # only SnapshotReceiver has those
        self.hearing.heard(sender, self.raft.status)
        self.links.heard(sender, str(body["address"]))
        for message in messages:
            if message.sender == sender and message.to == self.identity.id:
                self.raft.step(message)

    def _on_command(self, index: int, command: Mapping[str, Any]) -> None:
        before = self.state
        self.state, answer = apply(before, command)
        self.measures.applied(index)
        self.requests.on_applied(str(command.get("request")), answer)
        if self.state.members is not before.members:
            if command.get("type") == "member.join":
                self.leadership.welcome(str(command["member"]["id"]))
            elif command.get("type") == "member.dead":
                self.leadership.died(str(command["peer"]))
            self.leadership.keep_only(self.state.members.keys() | all_configured(self.raft.status))

    def _is_gone(self, peer: str) -> bool:
        return peer in self.state.removed and not is_configured(peer, self.raft.status)

    def _send_raft(self, peer: str, messages: list[Message]) -> None:
        body = {
            "address": self.identity.member["address"],
            "messages": [message.to_wire() for message in messages],
        }
        if not self.send(peer, "raft", body):
            self.raft.node.report_unreachable(peer)

    def _send_snapshot(self, peer: str, body: Mapping[str, Any]) -> bool:
        return self.send(peer, "snapshot", dict(body))

    def _on_snapshot(self, meta: SnapshotMeta) -> None:
        """The state jumps: what was asked here may be in it, but with what answer is not known."""
        self.state = self.snapshots.install(meta)
        self.requests.give_up("this peer was far behind and took over the state of another")

    def _note_leader(self) -> None:
        leader = self.raft.status.leader
        if leader != self._leader:
            if self._leader is not None:
                self.requests.give_up("the leader was lost meanwhile")
                if leader is None:
                    self.succession.after(self._leader, self._led_term)
            self._leader = leader
            self.leadership.forget_old_reports()
            if leader is not None:
                self.bulletins.report_now()
        if leader is not None:
            self._led_term = self.raft.status.term
