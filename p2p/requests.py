"""What clients and other peers ask this one: who answers, and who waits for the answer.

LOCAL verbs are answered from this peer's copy of the state, READ verbs too, but only once it holds
all that was agreed when they were asked; PROPOSED ones are forwarded to the leader and proposed
there; DIRECTED ones and faults go to the peer they name, ABOUT_ITSELF ones too, if they name one.
STREAMED ones are answered in parts, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from p2p import faults
from p2p.answers import ABOUT_ITSELF, DIRECTED, LOCAL
from p2p.errors import NoQuorum, OutcomeUnknown, P2PError, Usage, to_wire
from p2p.find import find_member
from p2p.proposals import PROPOSED, READ
from p2p.replicated.apply_sessions import Ticket, answered
from p2p.replicated.state import Member, parse_member
from p2p.routing.desk import STREAMED
from p2p.wire.envelope import Envelope, Malformed
from p2p.wire.network import Route

if TYPE_CHECKING:
    from p2p.peer import Peer

WAITING_MAX = 10_000
_UNSURE = "this peer cannot make sure with the leader that nothing newer is agreed; try again"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and where its answer goes."""

    id: str
    verb: str
    args: Mapping[str, Any]
    route: Route
    sender: str
    ticket: Ticket | None = None  # of the client's session, where it matters that it is done once

    @staticmethod
    def parse(envelope: Envelope, route: Route) -> Asked:
        id_, verb, args = (envelope.body.get(name) for name in ("id", "verb", "args"))
        if not (isinstance(id_, str) and isinstance(verb, str) and isinstance(args, dict)):
            raise Malformed("a request needs id, verb and args")
        session = envelope.body.get("session")
        try:
            ticket = None if session is None else Ticket.parse(session)
        except ValueError as error:
            raise Malformed(str(error)) from error
        return Asked(id_, verb, args, route, envelope.sender, ticket)

    def to_wire(self) -> dict[str, Any]:
        body = {"id": self.id, "verb": self.verb, "args": dict(self.args)}
        return {**body, "session": self.ticket.to_wire()} if self.ticket else body


class Requests:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.waiting: dict[str, list[Asked]] = {}  # by request id, until it is applied here
        self.forwarded: dict[str, Asked] = {}  # until the peer it was passed on to has answered
        self._then: dict[str, Callable[[], None]] = {}
        self.handled = 0  # since the start, without pings

    def handle(self, asked: Asked) -> None:
        """Answer now, or remember whom to answer when it is decided."""

        self.handled += asked.verb != "ping"

        def carry_out() -> None:
            if asked.verb in LOCAL:
                self._answer(asked, LOCAL[asked.verb](self._peer, asked.args))
            elif asked.verb in PROPOSED:
                self._to_leader(asked)
            elif asked.verb in ABOUT_ITSELF and asked.args.get("peer") is None:
                self._answer(asked, ABOUT_ITSELF[asked.verb](self._peer, asked.args))
            elif asked.verb in DIRECTED or asked.verb == "fault":
                self._to_target(asked)
            elif asked.verb in READ:
                self._read(asked)
            elif asked.verb in STREAMED:
                self._peer.routing.on_request(asked)
            else:
                raise Usage(f"this peer does not know the request {asked.verb!r}: is it older?")

        self._or_say_why(asked, carry_out)

    def on_applied(self, request: str, answer: Mapping[str, Any]) -> None:
        """What was asked for under this id went into the state."""
        for asked in self.waiting.pop(request, ()):
            self._answer(asked, answer)
            self._peer.raft.hurry(asked.sender)  # a peer passed it on; answers when it applies it
        if request in self._then:
            self._peer.parts.call_later(0.0, partial(self._go_on, request))

    def when_applied(self, request: str, then: Callable[[], None], within_s: float) -> None:
        """`then` once, when this is in the state or after so long without that."""
        self._then[request] = then
        self._peer.parts.call_later(within_s, partial(self._go_on, request))

    def _go_on(self, request: str) -> None:
        then = self._then.pop(request, None)
        if then is not None:
            then()

    def on_reply(self, body: Mapping[str, Any]) -> None:
        """Of a peer that was passed something on, or pinged."""
        if self._peer.measures.on_reply(body):
            return
        asked = self.forwarded.pop(str(body.get("id")), None)
        if asked is not None and "error" in body:
            self.waiting.pop(asked.id, None)
            self._answer(asked, body)
        elif asked is not None and asked.id not in self.waiting:
            told = body.get("ok")
            self._answer(asked, told if isinstance(told, dict) else {})

    def give_up(self, why: str) -> None:
        """What the old leader was asked may be lost: who asked may ask again, by the same id."""
        given_up = [asked for several in self.waiting.values() for asked in several]
        given_up += [asked for asked in self.forwarded.values() if asked.id not in self.waiting]
        self.waiting.clear()
        self.forwarded.clear()
        unknown = f"{why}: whether this was done is unknown; try again"
        lost = OutcomeUnknown(unknown, NoQuorum.exit_code)
        for asked in given_up:
            self._answer(asked, to_wire(lost))

    # -- who carries it out ------------------------------------------------------------------------

    def _to_leader(self, asked: Asked) -> None:
        peer = self._peer
        known = None
        if asked.ticket and asked.ticket.session in peer.state.sessions:  # else: not applied yet
            known = answered(peer.state, asked.ticket)
        if known is not None:  # asked again: it was decided meanwhile
            self._answer(asked, known)
        elif peer.raft.is_leader:
            try:
                command = PROPOSED[asked.verb](peer.state, asked.args)
            except P2PError:
                self._refuse_for_sure(asked)
            else:
                self._propose(asked, command)
        elif peer.raft.status.leader is None:
            if asked.verb == "join":
                self._note_address(parse_member(asked.args["member"]))
            raise NoQuorum(self.no_leader())
        else:
            # Answered when this peer applies it, so that who asked then finds it here; the leader's
            # own answer counts only if it is a refusal.
            self._wait(asked)
            self._forward(peer.raft.status.leader, asked)

    def _note_address(self, member: Member) -> None:
        """Nobody leads who could put it into the log, and perhaps only because this voter came
        back elsewhere: its vote is missing where it is asked for.
        """
        if self._peer.links.knows(member.id):
            self._peer.links.heard(member.id, member.address)

    def _propose(self, asked: Asked, command: dict[str, Any]) -> None:
        command = {**command, "request": asked.id}
        if asked.ticket:
            command["session"] = asked.ticket.to_wire()
        self._wait(asked)  # first: a sole voter applies within propose()
        try:
            self._peer.propose(command)
        except Exception:
            self.waiting.pop(asked.id, None)
            raise

    def _refuse_for_sure(self, asked: Asked) -> None:
        """What is asked for does not fit what this leader knows. A new one may not have applied
        yet what was agreed before, and one that is cut off may not know of a newer one: so make
        sure first.
        """

        def again(confirmed: bool) -> None:
            def carry_out() -> None:
                if not confirmed:
                    raise NoQuorum(_UNSURE)
                self._propose(asked, PROPOSED[asked.verb](self._peer.state, asked.args))

            self._or_say_why(asked, carry_out)

        self._peer.raft.read_barrier(again)

    def _read(self, asked: Asked) -> None:
        """Answer from this peer's copy once it holds all that was committed when it was asked."""

        def answer(confirmed: bool) -> None:
            if confirmed:
                self._answer(asked, READ[asked.verb](self._peer.state, asked.args))
            else:
                self._answer(asked, to_wire(NoQuorum(_UNSURE)))

        READ[asked.verb](self._peer.state, asked.args)  # what is malformed is said at once
        if asked.args.get("stale") is True:
            answer(True)
        else:
            self._peer.raft.read_barrier(answer)

    def _to_target(self, asked: Asked) -> None:
        peer, leader = self._peer, self._peer.raft.status.leader
        target = find_member(peer.state, str(asked.args["peer"]))
        if target.id == peer.identity.id and asked.verb == "fault":
            faults.begin(peer, asked.args, partial(self._answer, asked))
        elif target.id == peer.identity.id:
            self._answer(asked, DIRECTED[asked.verb](peer, asked.args))
        elif target.state != "alive" and asked.args.get("kind") != "heal":  # it may be cut off
            raise P2PError(f"{target.name} is {target.state}: nothing to do")
        elif peer.raft.is_leader or target.id in peer.links.linked:
            self._forward(target.id, asked)
        elif leader is not None:  # learners have no links to each other
            self._forward(leader, asked)
        else:
            raise NoQuorum(self.no_leader())

    # -- waiting, answering ------------------------------------------------------------------------

    def _wait(self, asked: Asked) -> None:
        while len(self.waiting) >= WAITING_MAX:
            del self.waiting[next(iter(self.waiting))]  # its asker has given up long ago
        self.waiting.setdefault(asked.id, []).append(asked)

    def _forward(self, to: str, asked: Asked) -> None:
        while len(self.forwarded) >= WAITING_MAX:
            del self.forwarded[next(iter(self.forwarded))]
        self.forwarded[asked.id] = asked
        if not self._peer.send(to, "request", asked.to_wire()):
            self.forwarded.pop(asked.id, None)
            self.waiting.pop(asked.id, None)
            raise NoQuorum(f"{self._name_of(to)} cannot be reached now; try again")

    def _answer(self, asked: Asked, body: Mapping[str, Any]) -> None:
        """An answer with an "error" is the error."""
        wrapped = body if "error" in body else {"ok": dict(body)}
        self._peer.mail.reply(asked.route, {**wrapped, "id": asked.id})

    def _or_say_why(self, asked: Asked, carry_out: Callable[[], None]) -> None:
        try:
            carry_out()
        except P2PError as error:
            self._answer(asked, to_wire(error))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            malformed = Usage(f"malformed request {asked.verb}: {error!r}")
            self._answer(asked, to_wire(malformed))
        except RecursionError:  # maps in maps in maps
            malformed = Usage(f"malformed request {asked.verb}: nested too deeply")
            self._answer(asked, to_wire(malformed))

    def no_leader(self) -> str:
        voters = self._peer.raft.status.voters
        lost = [
            self._name_of(voter)
            for voter in voters
            if voter != self._peer.identity.id
            and self._peer.leadership.down_since_s(voter) is not None
        ]
        said = f"no leader: a majority of {len(voters)} voters must be reachable"
        return f"{said}; start these again: {', '.join(lost)}" if lost else f"{said}; try again"

    def _name_of(self, peer: str) -> str:
        members = self._peer.state.members
        return members[peer].name if peer in members else peer
