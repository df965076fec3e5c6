"""How transcripts show messages, entries and peers, and how they write a change of members."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from consensus.messages import ConfChange, ConfChangeType, Entry, EntryType, Message, MessageType
from consensus.node import Role, Status

if TYPE_CHECKING:
    from tests.transcript_world import Actor

STEPS = {
    "add-voter": ConfChangeType.ADD_VOTER,
    "add-learner": ConfChangeType.ADD_LEARNER,
    "remove": ConfChangeType.REMOVE,
}
SHORT = 12


def change_of(words: Sequence[str]) -> ConfChange:
    kind, peer = words
    return ConfChange(STEPS[kind], peer)


def shown_change(change: ConfChange) -> str:
    return f"{change.type.name.lower().replace('_', '-')} {change.peer}"


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
        case MessageType.VOTE_RESP | MessageType.PRE_VOTE_RESP:
            parts.append("no" if message.reject else "yes")
    if message.context:
        parts.append(f"({message.context.decode(errors='backslashreplace')})")
    return " ".join(parts)


def shown_status(actor: "Actor") -> list[str]:
    """One line, and one for each peer that a leader tracks."""
    status = actor.node.status()
    first = 1
    entries = actor.storage.entries(first, actor.storage.last_index() + 1, 1 << 40)
    log = " ".join(f"{entry.index}/{entry.term}" for entry in entries) or "empty"
    state = "down" if actor.is_down else shown_role(status)
    vote = actor.storage.hard_state.vote or "-"
    lines = [f"{actor.id}: {state}, vote {vote}, log {log}, commit {status.commit}"]
    for peer, progress in status.progress.items():
        if peer != actor.id:
            quiet = "" if progress.recent_active else ", silent"
            lines.append(
                f"  {peer}: {progress.state}, has {progress.match}, next {progress.next}{quiet}"
            )
    return lines
