"""What a client (or a joining peer) may ask a peer: one small handler per verb.

LOCAL verbs are answered from this peer's copy of the state, READ verbs too, but only once it holds
all that was agreed when they were asked; PROPOSED ones are forwarded to the leader and proposed
there; DIRECTED ones go to the peer they name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from p2p import job_spec, view
from p2p.apply_sessions import Ticket, answered
from p2p.drills import DRILL_KINDS, Drill, Drills
from p2p.envelope import Envelope, Malformed
from p2p.errors import NoQuorum, P2PError, Refused, Usage, to_wire
from p2p.network import Route
from p2p.state import REPLACES_MAX, TEXT_MAX, Job, Member, parse_member
from p2p.store import problem_with

if TYPE_CHECKING:
    from p2p.peer import Peer

Args = Mapping[str, Any]
FAULT_KINDS = ("kill", "pause", "crash-trainer", "corrupt", *DRILL_KINDS, "heal")
ADD_MAX = 16
PAUSE_MAX_S = 3_600.0
WAITING_MAX = 10_000
_UNSURE = "this peer cannot make sure with the leader that nothing newer is agreed; try again"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and where its answer goes."""

    id: str
    verb: str
    args: Args
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


def handle(peer: Peer, asked: Asked) -> None:
    """Answer now, or remember whom to answer when it is decided."""

    def carry_out() -> None:
        if asked.verb in LOCAL:
            peer.answer(asked, LOCAL[asked.verb](peer, asked.args))
        elif asked.verb in PROPOSED:
            _to_leader(peer, asked)
        elif asked.verb in DIRECTED:
            _to_target(peer, asked)
        elif asked.verb in READ:
            _read(peer, asked)
        else:
            raise Usage(f"this peer does not know the request {asked.verb!r}: is it older?")

    _or_say_why(peer, asked, carry_out)


def _or_say_why(peer: Peer, asked: Asked, carry_out: Callable[[], None]) -> None:
    try:
        carry_out()
    except P2PError as error:
        peer.answer(asked, to_wire(error))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        peer.answer(asked, to_wire(Usage(f"malformed request {asked.verb}: {error!r}")))
    except RecursionError:  # maps in maps in maps
        peer.answer(asked, to_wire(Usage(f"malformed request {asked.verb}: nested too deeply")))


def _to_leader(peer: Peer, asked: Asked) -> None:
    status = peer.raft.status
    known = None
    if asked.ticket and asked.ticket.session in peer.state.sessions:  # else: not applied here yet
        known = answered(peer.state, asked.ticket)
    if known is not None:  # asked again: it was decided meanwhile
        peer.answer(asked, known)
    elif peer.raft.is_leader:
        try:
            command = PROPOSED[asked.verb](peer, asked.args)
        except P2PError:
            _refuse_for_sure(peer, asked)
        else:
            _propose(peer, asked, command)
    elif status.leader is None:
        raise NoQuorum(_no_leader(peer))
    else:
        # Answered when this peer applies it, so that who asked then finds it here; the leader's
        # own answer counts only if it is a refusal.
        _wait(peer, asked)
        _forward(peer, status.leader, asked)


def _propose(peer: Peer, asked: Asked, command: dict[str, Any]) -> None:
    command = {**command, "request": asked.id}
    if asked.ticket:
        command["session"] = asked.ticket.to_wire()
    _wait(peer, asked)  # first: a sole voter applies within propose()
    try:
        peer.propose(command)
    except Exception:
        peer.waiting.pop(asked.id, None)
        raise


def _refuse_for_sure(peer: Peer, asked: Asked) -> None:
    """What is asked for does not fit what this leader knows. A new one may not have applied yet
    what was agreed before, and one that is cut off may not know of a newer one: make sure first.
    """

    def again(confirmed: bool) -> None:
        def carry_out() -> None:
            if not confirmed:
                raise NoQuorum(_UNSURE)
            _propose(peer, asked, PROPOSED[asked.verb](peer, asked.args))

        _or_say_why(peer, asked, carry_out)

    peer.raft.read_barrier(again)


def _read(peer: Peer, asked: Asked) -> None:
    """Answer from this peer's copy once it holds all that was committed when it was asked."""

    def answer(confirmed: bool) -> None:
        if confirmed:
            peer.answer(asked, READ[asked.verb](peer, asked.args))
        else:
            peer.answer(asked, to_wire(NoQuorum(_UNSURE)))

    READ[asked.verb](peer, asked.args)  # what is malformed is said at once
    if asked.args.get("stale") is True:
        answer(True)
    else:
        peer.raft.read_barrier(answer)


def _wait(peer: Peer, asked: Asked) -> None:
    while len(peer.waiting) >= WAITING_MAX:
        del peer.waiting[next(iter(peer.waiting))]  # its asker has given up long ago
    peer.waiting.setdefault(asked.id, []).append(asked)


def _to_target(peer: Peer, asked: Asked) -> None:
    target = find_member(peer, str(asked.args["peer"]))
    if target.id == peer.identity.id:
        peer.answer(asked, DIRECTED[asked.verb](peer, asked.args))
    elif target.state != "alive" and asked.args.get("kind") != "heal":  # it may be cut off
        raise P2PError(f"{target.name} is {target.state}: nothing to do")
    elif peer.raft.is_leader or target.id in peer.links.linked:
        _forward(peer, target.id, asked)
    elif peer.raft.status.leader is not None:  # learners have no links to each other
        _forward(peer, peer.raft.status.leader, asked)
    else:
        raise NoQuorum(_no_leader(peer))


def _forward(peer: Peer, to: str, asked: Asked) -> None:
    while len(peer.forwarded) >= WAITING_MAX:
        del peer.forwarded[next(iter(peer.forwarded))]
    peer.forwarded[asked.id] = asked
    if not peer.send(to, "request", asked.to_wire()):
        peer.forwarded.pop(asked.id, None)
        peer.waiting.pop(asked.id, None)
        name = peer.state.members[to].name if to in peer.state.members else to
        raise NoQuorum(f"{name} cannot be reached now; try again")


def _no_leader(peer: Peer) -> str:
    voters = peer.raft.status.voters
    lost = [
        peer.state.members[voter].name if voter in peer.state.members else voter
        for voter in voters
        if voter != peer.identity.id and peer.leadership.down_since_s(voter) is not None
    ]
    said = f"no leader: a majority of {len(voters)} voters must be reachable"
    return f"{said}; start these again: {', '.join(lost)}" if lost else f"{said}; try again"


def find_member(peer: Peer, text: str) -> Member:
    """A peer by id, name, address, or a unique beginning of its id. Raises Usage."""
    members = peer.state.members.values()
    exact = [told for told in members if text in (told.id, told.name, told.address)]
    close = [told for told in members if text and told.id.startswith(text)]
    found = exact or close
    if len(found) == 1:
        return found[0]
    known = ", ".join(sorted(told.name for told in members))
    problem = "is not unique" if found else "is not a peer of this cluster"
    raise Usage(f"{text!r} {problem}: there are {known}")


def find_job(peer: Peer, text: str) -> Job:
    """A job by id, or the newest of that name. Raises Usage."""
    jobs = [job for job in peer.state.jobs.values() if text in (job.id, job.name)]
    if jobs:
        return jobs[-1]
    raise Usage(f"there is no job {text!r}: `p2pnode jobs` lists them")


# -- answered from this peer's copy ------------------------------------------------------------


def _status(peer: Peer, args: Args) -> dict[str, Any]:
    return view.status(peer.state, peer.raft_view(), peer.vitals())


def _peers(peer: Peer, args: Args) -> dict[str, Any]:
    rows = view.peers(peer.state, peer.raft_view(), peer.vitals())
    return {"schema": view.SCHEMA, "peers": rows}


def _jobs(peer: Peer, args: Args) -> dict[str, Any]:
    return {"schema": view.SCHEMA, "jobs": view.jobs(peer.state, peer.vitals())}


def _job(peer: Peer, args: Args) -> dict[str, Any]:
    return view.job_detail(find_job(peer, str(args["job"])), peer.vitals())


def _history(peer: Peer, args: Args) -> dict[str, Any]:
    return view.history(find_job(peer, str(args["job"])))


def _events(peer: Peer, args: Args) -> dict[str, Any]:
    return view.events(peer.state, int(args.get("since", 0)))


def _stats(peer: Peer, args: Args) -> dict[str, Any]:
    """What this peer did since its start, for benchmarks and the curious."""
    return {
        "schema": view.SCHEMA,
        "leads": peer.raft.is_leader,
        "first_index": peer.raft.status.first_index,
        "applied_index": peer.raft.applied,
        "syncs": peer.raft.syncs,
        "dropped_messages": peer.dropped_messages,
        **asdict(peer.traffic),
    }


def _add(peer: Peer, args: Args) -> dict[str, Any]:
    count = int(args.get("count", 1))
    if not 1 <= count <= ADD_MAX:
        raise Usage(f"add takes 1 to {ADD_MAX} peers at a time")
    try:
        return {"schema": view.SCHEMA, "pids": peer.parts.start_peers(count)}
    except OSError as error:
        raise P2PError(f"cannot start another peer here: {error}") from error


# -- decided by the leader ---------------------------------------------------------------------


def _join(peer: Peer, args: Args) -> dict[str, Any]:
    parse_member(args["member"])
    joins = {"type": "member.join", "member": dict(args["member"])}
    replaces = [str(peer) for peer in args.get("replaces", ())]
    if len(replaces) > REPLACES_MAX:
        raise Usage(f"a peer replaces at most {REPLACES_MAX} former selves")
    return {**joins, "replaces": replaces} if replaces else joins


def _leave(peer: Peer, args: Args) -> dict[str, Any]:
    return {"type": "member.leave", "peer": str(args["peer"])}


def _remove(peer: Peer, args: Args) -> dict[str, Any]:
    target = find_member(peer, str(args["peer"]))
    others = [told for told in peer.state.members.values() if told.id != target.id]
    if not others:
        raise P2PError(f"{target.name} is the only peer: stop it instead")
    if not any(told.state == "alive" for told in others):
        raise P2PError(
            f"{target.name} is the only peer that runs: start or remove the others first"
        )
    return {"type": "member.remove", "peer": target.id}


def _submit(peer: Peer, args: Args) -> dict[str, Any]:
    spec = job_spec.checked(args)
    name = str(args.get("name") or job_spec.default_name(spec))
    if max(len(name), len(spec["task"])) > TEXT_MAX:
        raise Usage(f"a job's name and task have at most {TEXT_MAX} characters")
    return {"type": "job.submit", "name": name, "spec": spec}


def _open_session(peer: Peer, args: Args) -> dict[str, Any]:
    return {"type": "session.open"}


def _put(peer: Peer, args: Args) -> dict[str, Any]:
    return _storable({"type": "store.put", "key": args["key"], "value": args["value"]})


def _delete(peer: Peer, args: Args) -> dict[str, Any]:
    return _storable({"type": "store.delete", "key": args["key"]})


def _compare_and_set(peer: Peer, args: Args) -> dict[str, Any]:
    expected, value = args["expected"], args["value"]
    if expected is not None:
        _storable({"key": args["key"], "value": expected})
    command = {"type": "store.compare_and_set", "key": args["key"], "expected": expected}
    return _storable(command if value is None else {**command, "value": value}) | {"value": value}


def _get(peer: Peer, args: Args) -> dict[str, Any]:
    key = str(_storable({"key": args["key"]})["key"])
    return {"value": peer.state.store.get(key)}


def _storable(command: dict[str, Any]) -> dict[str, Any]:
    """Refused before it is in the log, not only after. Raises Usage."""
    problem = problem_with(command["key"], command.get("value", b""))
    if problem:
        raise Usage(problem)
    return command


def _on_job(verb: str) -> Callable[[Peer, Args], dict[str, Any]]:
    def command(peer: Peer, args: Args) -> dict[str, Any]:
        return {"type": f"job.{verb}", "job": find_job(peer, str(args["job"])).id}

    return command


# -- done by the peer that is named ------------------------------------------------------------


def _fault(peer: Peer, args: Args) -> dict[str, Any]:
    kind = str(args["kind"])
    if kind not in FAULT_KINDS:
        raise Usage(f"{kind!r} is not a fault: there are {', '.join(FAULT_KINDS)}")
    me = peer.identity.member["name"]
    if not peer.identity.allow_faults:
        raise Refused(f"{me} does not allow faults: start it with --allow-faults")
    told_s = args.get("for_s")
    for_s = float(told_s or 5.0)
    if not 0.0 < for_s <= PAUSE_MAX_S:
        raise Usage(f"a fault lasts more than 0 and at most {PAUSE_MAX_S:g} seconds")
    if kind in DRILL_KINDS or kind == "heal":
        return _drill(peer, args, kind, float(told_s) if told_s else None)
    if kind == "crash-trainer":
        return {"schema": view.SCHEMA, "crashed": peer.desk.crash()}
    if kind == "corrupt":
        peer.parts.fault(kind, for_s)
    else:  # later, so that the answer leaves first
        peer.parts.call_later(0.05, lambda: peer.parts.fault(kind, for_s))
    return {"schema": view.SCHEMA, "fault": kind, "peer": peer.identity.id}


def _drill(peer: Peer, args: Args, kind: str, for_s: float | None) -> dict[str, Any]:
    """`for_s` None: until it is healed. `side`: all peers on this side of a partition."""
    if kind == "heal":
        peer.drills = Drills()
    else:
        side = [find_member(peer, str(text)).id for text in args.get("side", ())]
        until_s = None if for_s is None else peer.parts.clock.monotonic_s() + for_s
        named = frozenset({peer.identity.id, *side})
        peer.drills = peer.drills.and_also(Drill(_DRILLS[kind], named, until_s))
    return {"schema": view.SCHEMA, "fault": kind, "peer": peer.identity.id}


_DRILLS = {str(kind): kind for kind in DRILL_KINDS}


def _transfer(peer: Peer, args: Args) -> dict[str, Any]:
    target = find_member(peer, str(args["peer"]))
    if target.id == peer.raft.status.leader:
        return {"schema": view.SCHEMA, "leader": target.id}
    if target.id not in peer.raft.status.voters:
        raise P2PError(f"{target.name} is a learner and cannot lead: it has no vote")
    peer.raft.transfer(target.id)
    return {"schema": view.SCHEMA, "leader": target.id}


LOCAL: dict[str, Callable[[Peer, Args], dict[str, Any]]] = {
    "status": _status,
    "peers": _peers,
    "jobs": _jobs,
    "job": _job,
    "history": _history,
    "events": _events,
    "stats": _stats,
    "add": _add,
    "transfer": _transfer,
}
PROPOSED: dict[str, Callable[[Peer, Args], dict[str, Any]]] = {
    "join": _join,
    "leave": _leave,
    "remove": _remove,
    "submit": _submit,
    "pause": _on_job("pause"),
    "resume": _on_job("resume"),
    "cancel": _on_job("cancel"),
    "session": _open_session,
    "put": _put,
    "delete": _delete,
    "compare_and_set": _compare_and_set,
}
# These do no harm when they are applied again; all others need a session to be asked again safely.
REPEATABLE = frozenset({"join", "leave", "session"})
ONCE = frozenset(PROPOSED) - REPEATABLE
READ: dict[str, Callable[[Peer, Args], dict[str, Any]]] = {"get": _get}
DIRECTED: dict[str, Callable[[Peer, Args], dict[str, Any]]] = {"fault": _fault}
# Not in the log, so nothing knows whether it was done before: asked for once, answered or not.
UNGUARDED = frozenset({"add"})
