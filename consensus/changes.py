"""Who takes part: configurations, changes of them, and snapshots that carry one; wire forms."""

from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Any, Self

import msgpack

from consensus.wire import MalformedMessage, as_bool, as_bytes, as_id, as_list, as_uint


@dataclass(frozen=True, slots=True)
class ConfState:
    """The members in force, each tuple sorted.

    voters_outgoing is not empty only inside a joint change: then both halves must agree (§6).
    learners_next: outgoing voters that become learners when the joint change is left.
    auto_leave: the leader leaves the joint change by itself.
    """

    voters: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()
    voters_outgoing: tuple[str, ...] = ()
    learners_next: tuple[str, ...] = ()
    auto_leave: bool = False

    def to_wire(self) -> list[Any]:
        """[voters, learners, voters_outgoing, learners_next, auto_leave]."""
        return [
            list(self.voters),
            list(self.learners),
            list(self.voters_outgoing),
            list(self.learners_next),
            self.auto_leave,
        ]

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """Inverse of to_wire. Raises MalformedMessage."""
        *ids, auto_leave = as_list(value, "configuration", 5)
        voters, learners, outgoing, learners_next = (_sorted_ids(peers) for peers in ids)
        leave = as_bool(auto_leave, "auto_leave")
        return cls(voters, learners, outgoing, learners_next, leave)


def _sorted_ids(value: object) -> tuple[str, ...]:
    ids = tuple(as_id(peer, "peer") for peer in as_list(value, "peers"))
    if any(first >= second for first, second in pairwise(ids)):
        raise MalformedMessage("the peers of a configuration are not in order")
    return ids


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """Which state a snapshot holds: everything up to (index, term), and the members then.

    Index 0: no snapshot; `conf` is then what a log from entry 1 on starts with (usually nobody).
    """

    index: int = 0
    term: int = 0
    conf: ConfState = ConfState()

    def to_wire(self) -> list[Any]:
        """[index, term, configuration]."""
        return [self.index, self.term, self.conf.to_wire()]

    @classmethod
    def from_wire(cls, value: object) -> Self:
        """Inverse of to_wire. Raises MalformedMessage."""
        index, term, conf = as_list(value, "snapshot", 3)
        meta = cls(as_uint(index, "index"), as_uint(term, "term"), ConfState.from_wire(conf))
        if (meta.index == 0) != (meta.term == 0):
            raise MalformedMessage(f"a snapshot at {meta.index} of term {meta.term}")
        return meta


class ConfChangeType(IntEnum):
    """One step; ADD_LEARNER of a voter demotes it, ADD_VOTER of a learner promotes it.

    UPDATE changes no membership; its change's context may tell the host something.
    """

    ADD_VOTER = 0
    ADD_LEARNER = 1
    REMOVE = 2
    UPDATE = 3


class Transition(IntEnum):
    """How to get there. AUTO: at once if that moves one voter at most, else JOINT_IMPLICIT.

    Joint: through a configuration in which old and new voters must both agree. IMPLICIT: the
    leader leaves it by itself; EXPLICIT: a change without steps leaves it.
    """

    AUTO = 0
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2


@dataclass(frozen=True, slots=True)
class Step:
    """What shall become of one peer."""

    type: ConfChangeType
    peer: str


@dataclass(frozen=True, slots=True)
class ConfChange:
    """A change of membership, all steps together. No steps: leave the joint configuration.

    `context` is the host's (an address, a reason …).
    """

    steps: tuple[Step, ...] = ()
    transition: Transition = Transition.AUTO
    context: bytes = b""

    @classmethod
    def one(cls, type: ConfChangeType, peer: str, context: bytes = b"") -> Self:
        """The change of a single peer."""
        return cls((Step(type, peer),), context=context)

    @property
    def leaves_joint(self) -> bool:
        """Whether it ends a joint change instead of starting anything."""
        return not self.steps

    def encode(self) -> bytes:
        """The data of its log entry (msgpack)."""
        steps = [[int(step.type), step.peer] for step in self.steps]
        return bytes(msgpack.packb([int(self.transition), steps, self.context]))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Inverse of encode. Raises MalformedMessage."""
        try:
            value = msgpack.unpackb(data)
        except (ValueError, msgpack.UnpackException, msgpack.ExtraData) as error:
            raise MalformedMessage(f"a configuration change is not msgpack: {error}") from None
        transition, steps, context = as_list(value, "configuration change", 3)
        return cls(
            tuple(_step(step) for step in as_list(steps, "steps")),
            Transition(_member(Transition, transition, "transition")),
            as_bytes(context, "context"),
        )


def _step(value: object) -> Step:
    kind, peer = as_list(value, "step", 2)
    number = _member(ConfChangeType, kind, "configuration change type")
    return Step(ConfChangeType(number), as_id(peer, "peer"))


def _member(words: type[IntEnum], value: object, name: str) -> int:
    number = as_uint(value, name)
    if number not in {int(word) for word in words}:
        raise MalformedMessage(f"unknown {name} {number}")
    return number
