"""How transcripts show messages, entries and peers, and how they write a change of members."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from consensus.changes import ConfChange, ConfChangeType, Step, Transition
from consensus.messages import Entry, EntryType, Message, MessageType
from consensus.node import Role, Status

if TYPE_CHECKING:
    from tests.transcript_actor import Actor

STEPS = {
    "add-voter": ConfChangeType.ADD_VOTER,
    "add-learner": ConfChangeType.ADD_LEARNER,
    "remove": ConfChangeType.REMOVE,
}
TRANSITIONS = {"explicit": Transition.JOINT_EXPLICIT, "implicit": Transition.JOINT_IMPLICIT}
SHORT = 12


def change_of(words: Sequence[str]) -> ConfChange:
    """add-voter d [remove b …] [explicit|implicit], or: leave."""
    if list(words) == ["leave"]:
        return ConfChange()
    how = TRANSITIONS.get(words[-1], Transition.AUTO)
    pairs = words[: len(words) // 2 * 2]
    steps = zip(pairs[::2], pairs[1::2], strict=True)
    return ConfChange(tuple(Step(STEPS[kind], peer) for kind, peer in steps), how)


def shown_change(change: ConfChange) -> str:
    steps = [f"{step.type.name.lower().replace('_', '-')} {step.peer}" for step in change.steps]
    how = [word for word, kind in TRANSITIONS.items() if kind is change.transition]
    return " ".join([*steps, *how]) or "leave"


def shown_entry(entry: Entry) -> str:
    """index/term and its data: "-" for a no-op."""
    if entry.type is EntryType.CONF_CHANGE:
        text = f"({shown_change(ConfChange.decode(entry.data))})"
    elif len(entry.data) > SHORT:
        text = f"{entry.data[:1].decode()}*{len(entry.data)}"
    else:
        text = entry.data.decode() or "-"
    return f"{entry.index}/{entry.term} {text}"


def shown_entries(entries: Iterable[Entry]) -> str:
    return ", ".join(map(shown_entry, entries))


def shown_role(status: Status) -> str:
    of = f" of {status.leader}" if status.leader and status.role is Role.FOLLOWER else ""
    return f"{status.role}{of} in term {status.term}"


def shown_members(status: Status) -> str:
    told = " ".join(status.voters)
    for name, peers in (
        ("joint with", status.voters_outgoing),
        ("learners", status.learners),
        ("learners next", status.learners_next),
    ):
        told += f" {name} {' '.join(peers)}" if peers else ""
    return told


def shown_message(message: Message) -> str:
    parts = [f"{message.sender}->{message.to} {message.type} term {message.term}"]
    match message.type:
        case MessageType.APP:
            parts.append(f"after {message.index}/{message.log_term} commit {message.commit}")
            parts.append(f"[{shown_entries(message.entries)}]")
        case MessageType.VOTE | MessageType.PRE_VOTE:
            parts.append(f"last {message.index}/{message.log_term}")
        case MessageType.HEARTBEAT:
            parts.append(f"commit {message.commit}")
        case MessageType.APP_RESP if message.reject:
            parts.append(f"not {message.index}, perhaps {message.reject_hint}/{message.log_term}")
        case MessageType.APP_RESP:
            parts.append(f"has {message.index}")
        case MessageType.SNAP if message.snapshot is not None:
            parts.append(f"of {message.snapshot.index}/{message.snapshot.term}")
        case MessageType.READ_INDEX_RESP:
            parts.append(f"read at {message.index}")
        case MessageType.VOTE_RESP | MessageType.PRE_VOTE_RESP:
            parts.append("no" if message.reject else "yes")
    if message.context:
        parts.append(f"({shown_context(message.context)})")
    return " ".join(parts)


def shown_context(context: bytes) -> str:
    """Text, or the number of an attempt to read (its first half tells apart lives of a peer)."""
    return f"read {context[-1]}" if len(context) == 16 and context[8] == 0 else context.decode()


def shown_status(actor: "Actor") -> list[str]:
    """One line, and one for each peer that a leader tracks."""
    status = actor.node.status()
    first = actor.storage.first_index()
    entries = actor.storage.entries(first, actor.storage.last_index() + 1, 1 << 40)
    log = " ".join(f"{entry.index}/{entry.term}" for entry in entries) or "empty"
    state = "down" if actor.is_down else shown_role(status)
    vote = actor.storage.hard_state.vote or "-"
    if first > 1:
        log = f"(to {first - 1}/{actor.storage.term(first - 1)}) {log}"
    lines = [f"{actor.id}: {state}, vote {vote}, log {log}, commit {status.commit}"]
    for peer, progress in status.progress.items():
        if peer != actor.id:
            quiet = "" if progress.recent_active else ", silent"
            lines.append(
                f"  {peer}: {progress.state}, has {progress.match}, next {progress.next}{quiet}"
            )
    return lines
