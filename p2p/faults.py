"""Drills that a peer carries out on itself: checked, told to all, then done.

Who is killed or cut off can tell nobody any more, so what is done goes into the events first; where
that cannot be agreed, it is done all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2p.errors import P2PError, Refused, Usage, to_wire
from p2p.find import find_member
from p2p.view import SCHEMA
from p2p.wire.drills import DRILL_KINDS, FAULT_KINDS, Drill, Drills

if TYPE_CHECKING:
    from p2p.peer import Peer

PAUSE_S = 5.0
FAULT_MAX_S = 3_600.0
ANSWER_FIRST_S = 0.05
_DRILLS = {str(kind): kind for kind in DRILL_KINDS}

Answer = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """`for_s` None: until it is healed, or done at once. `side`: of a partition."""

    kind: str
    for_s: float | None
    side: frozenset[str]


def begin(peer: Peer, args: Mapping[str, Any], answer: Answer) -> None:
    """Answers when it is done, or is about to be. `only_check`: answers whether it could be.

    Raises P2PError.
    """
    fault = _checked(peer, args)

    def carry_out() -> None:
        try:
            answer({"schema": SCHEMA, **_done(peer, fault)})
        except P2PError as error:
            answer(to_wire(error))

    if args.get("only_check") is True:
        answer({"schema": SCHEMA, "fault": fault.kind, "peer": peer.identity.id})
    elif fault.kind == "heal":  # what it tells may need what it heals
        carry_out()
        _tell(peer, fault, None)
    else:
        _tell(peer, fault, carry_out)


def _checked(peer: Peer, args: Mapping[str, Any]) -> Fault:
    kind, told_s = str(args["kind"]), args.get("for_s")
    if kind not in FAULT_KINDS:
        raise Usage(f"{kind!r} is not a fault: there are {', '.join(FAULT_KINDS)}")
    if not peer.identity.allow_faults:
        me = peer.identity.member["name"]
        raise Refused(f"{me} does not allow faults: start it with --allow-faults")
    for_s = PAUSE_S if told_s is None else float(told_s)
    if not 0.0 < for_s <= FAULT_MAX_S:
        raise Usage(f"a fault lasts more than 0 and at most {FAULT_MAX_S:g} seconds")
    side = frozenset(find_member(peer.state, str(text)).id for text in args.get("side", ()))
    lasts = kind == "pause" or (kind in DRILL_KINDS and told_s is not None)
    return Fault(kind, for_s if lasts else None, side)


def _tell(peer: Peer, fault: Fault, then: Callable[[], None] | None) -> None:
    name, lasts = peer.identity.member["name"], f" for {fault.for_s:g} s" if fault.for_s else ""
    text, severity = f"a drill: {fault.kind} {name}{lasts}", "warning"
    if fault.kind == "heal":
        text, severity = f"a drill ends at {name}", "info"
    peer.watch.tell_event("fault", severity, text, peer=peer.identity.id, then=then)


def _done(peer: Peer, fault: Fault) -> dict[str, Any]:
    if fault.kind == "crash-trainer":
        return {"crashed": peer.desk.crash()}
    if fault.kind == "heal":
        peer.mail.drills = Drills()
    elif fault.kind in _DRILLS:
        now_s = peer.parts.clock.monotonic_s()
        until_s = None if fault.for_s is None else now_s + fault.for_s
        named = fault.side | {peer.identity.id}
        peer.mail.drills = peer.mail.drills.and_also(Drill(_DRILLS[fault.kind], named, until_s))
    elif fault.kind == "corrupt":
        peer.parts.fault(fault.kind, fault.for_s)
    else:  # later, so that the answer leaves first
        peer.parts.call_later(ANSWER_FIRST_S, lambda: peer.parts.fault(fault.kind, fault.for_s))
    return {"fault": fault.kind, "peer": peer.identity.id}
