"""The words of Raft: entries, hard state, messages; their wire form.

Vocabulary of etcd-io/raft. Local prompts (MsgHup, MsgBeat, MsgProp, MsgCheckQuorum) are method
calls of RawNode here, never messages, so nothing that arrives from the network can pretend to be
one.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Self

from consensus.changes import SnapshotMeta
from consensus.wire import (
    MalformedMessage,
    as_bool,
    as_bytes,
    as_id,
    as_list,
    as_optional_id,
    as_uint,
)


class EntryType(IntEnum):
    """What `Entry.data` holds: the host's bytes, or an encoded ConfChange."""

    NORMAL = 0
    CONF_CHANGE = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One slot of the replicated log; NORMAL with empty data is the no-op of a new leader."""

    index: int
    term: int
    type: EntryType = EntryType.NORMAL
    data: bytes = b""

    def to_wire(self) -> list[Any]:
        """[term, type, data]; the index follows from the place in its batch."""
        return [self.term, int(self.type), self.data]

    @classmethod
    def from_wire(cls, value: object, index: int) -> Self:
        """Inverse of to_wire. Raises MalformedMessage."""
        term, kind, data = as_list(value, "entry", 3)
        if (number := as_uint(kind, "entry type")) not in _ENTRY_TYPES:
            raise MalformedMessage(f"entry {index} has the unknown type {number}")
        checked_term = as_uint(term, "entry term")
        if checked_term == 0:
            raise MalformedMessage(f"entry {index} has term 0")
        return cls(index, checked_term, EntryType(number), as_bytes(data, "entry data"))


_ENTRY_TYPES = frozenset(int(kind) for kind in EntryType)


@dataclass(frozen=True, slots=True)
class HardState:
    """What must survive a crash besides the log. `commit` may lag: it needs no sync of its own."""

    term: int = 0
    vote: str | None = None
    commit: int = 0

    def to_wire(self) -> list[Any]:
        """[term, vote or None, commit]."""
        return [self.term, self.vote, self.commit]

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """Inverse of to_wire. Raises MalformedMessage."""
        term, vote, commit = as_list(value, "hard state", 3)
        return cls(as_uint(term, "term"), as_optional_id(vote, "vote"), as_uint(commit, "commit"))


class MessageType(StrEnum):
    """Everything one peer may send another."""

    APP = "MsgApp"
    APP_RESP = "MsgAppResp"
    VOTE = "MsgVote"
    VOTE_RESP = "MsgVoteResp"
    PRE_VOTE = "MsgPreVote"
    PRE_VOTE_RESP = "MsgPreVoteResp"
    HEARTBEAT = "MsgHeartbeat"
    HEARTBEAT_RESP = "MsgHeartbeatResp"
    TRANSFER_LEADER = "MsgTransferLeader"
    TIMEOUT_NOW = "MsgTimeoutNow"
    SNAP = "MsgSnap"
    READ_INDEX = "MsgReadIndex"
    READ_INDEX_RESP = "MsgReadIndexResp"


_MESSAGE_TYPES = {str(kind): kind for kind in MessageType}
CAMPAIGN_TRANSFER = b"CampaignTransfer"  # context of a vote request that a leader asked for


@dataclass(frozen=True, slots=True)
class Message:
    """One flat record for all types, as in etcd; a type uses the fields it needs.

    MsgApp: (index, log_term) is the entry before `entries`; commit is the leader's.
    MsgAppResp: index acknowledged; or reject with the refused index and the hint (reject_hint,
    log_term): the follower's greatest entry that may still match the leader's log.
    MsgVote/MsgPreVote: (index, log_term) is the candidate's last entry; term is the term asked for.
    MsgHeartbeat: commit, cut to what the follower is known to hold; context is echoed.
    MsgTransferLeader: context is the id (UTF-8) of the peer that shall lead.
    MsgSnap: snapshot says which state the follower needs instead of entries; the hosts move it.
    MsgReadIndex/Resp: context names the attempt; index in the answer is safe to read at.
    """

    type: MessageType
    to: str
    sender: str
    term: int
    log_term: int = 0
    index: int = 0
    commit: int = 0
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""
    entries: tuple[Entry, ...] = ()
    snapshot: SnapshotMeta | None = None

    def to_wire(self) -> list[Any]:
        """A flat list of msgpack-able values, in the order of the fields."""
        return [
            str(self.type),
            self.to,
            self.sender,
            self.term,
            self.log_term,
            self.index,
            self.commit,
            self.reject,
            self.reject_hint,
            self.context,
            [entry.to_wire() for entry in self.entries],
            None if self.snapshot is None else self.snapshot.to_wire(),
        ]

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """Inverse of to_wire; checks types, ranges and order. Raises MalformedMessage."""
        fields = as_list(value, "message", 12)
        kind, to, sender, term, log_term, index, commit = fields[:7]
        reject, hint, context, entries, snapshot = fields[7:]
        if not isinstance(kind, str) or kind not in _MESSAGE_TYPES:
            raise MalformedMessage(f"unknown message type {str(kind)[:40]!r}")
        first = as_uint(index, "index") + 1
        message = cls(
            type=_MESSAGE_TYPES[kind],
            to=as_id(to, "to"),
            sender=as_id(sender, "sender"),
            term=as_uint(term, "term"),
            log_term=as_uint(log_term, "log_term"),
            index=first - 1,
            commit=as_uint(commit, "commit"),
            reject=as_bool(reject, "reject"),
            reject_hint=as_uint(hint, "reject_hint"),
            context=as_bytes(context, "context"),
            entries=tuple(
                Entry.from_wire(entry, first + place)
                for place, entry in enumerate(as_list(entries, "entries"))
            ),
            snapshot=None if snapshot is None else SnapshotMeta.from_wire(snapshot),
        )
        message.check()
        return message

    def check(self) -> None:
        """Refuse what no correct peer sends. Raises MalformedMessage."""
        if self.term == 0:
            raise MalformedMessage(f"{self.type} with term 0")
        if self.entries and self.type is not MessageType.APP:
            raise MalformedMessage(f"{self.type} must not carry entries")
        if (self.snapshot is None) == (self.type is MessageType.SNAP):
            raise MalformedMessage(f"{self.type} carries the wrong kind of content")
        if self.snapshot is not None and not 0 < self.snapshot.term <= self.term:
            raise MalformedMessage(f"{self.type} of a snapshot of term {self.snapshot.term}")
        if self.type in _NAMES_AN_ENTRY:
            if (self.index == 0) != (self.log_term == 0):
                raise MalformedMessage(f"{self.type} names entry {self.index} of {self.log_term}")
            newest = self.log_term
            for entry in self.entries:
                if not newest <= entry.term <= self.term:
                    raise MalformedMessage(f"terms in {self.type} do not rise at {entry.index}")
                newest = entry.term


_NAMES_AN_ENTRY = frozenset({MessageType.APP, MessageType.VOTE, MessageType.PRE_VOTE})
