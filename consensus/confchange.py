"""Configurations, and the steps between two: a pure calculation (etcd-raft's Changer).

Simple: |old Δ new| ≤ 1 voter, so that any two majorities meet (dissertation §4.1). Joint: through a
configuration in which majorities of old and new must both agree (paper §6, dissertation §4.3).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from consensus.changes import ConfChange, ConfChangeType, ConfState, Step, Transition
from consensus.quorum import JointConfig


class InvalidChange(ValueError):
    """This change cannot follow this configuration; the text says why."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The members in force. voters and learners never overlap.

    learners_next: outgoing voters, learners as soon as the joint configuration is left.
    """

    voters: JointConfig = field(default_factory=JointConfig)
    learners: frozenset[str] = field(default_factory=frozenset)
    learners_next: frozenset[str] = field(default_factory=frozenset)
    auto_leave: bool = False

    @classmethod
    def from_conf_state(cls, state: ConfState) -> "Configuration":
        """Inverse of conf_state."""
        return cls(
            JointConfig(frozenset(state.voters), frozenset(state.voters_outgoing)),
            frozenset(state.learners),
            frozenset(state.learners_next),
            state.auto_leave,
        )

    def conf_state(self) -> ConfState:
        """As plain sorted tuples."""
        return ConfState(
            tuple(sorted(self.voters.incoming)),
            tuple(sorted(self.learners)),
            tuple(sorted(self.voters.outgoing)),
            tuple(sorted(self.learners_next)),
            self.auto_leave,
        )

    @property
    def is_joint(self) -> bool:
        """Whether two sets of voters must agree."""
        return bool(self.voters.outgoing)

    def members(self) -> frozenset[str]:
        """Everybody who gets the log."""
        return self.voters.ids() | self.learners


def simple(current: Configuration, steps: Iterable[Step]) -> Configuration:
    """All steps at once, where they move one voter at most. Raises InvalidChange."""
    if current.is_joint:
        raise InvalidChange("a joint change is under way: leave it before the next change")
    changed = _apply(current, steps)
    if len(changed.voters.incoming ^ current.voters.incoming) > 1:
        raise InvalidChange("more than one voter changes: that needs a joint change")
    return changed


def enter_joint(
    current: Configuration, steps: Iterable[Step], auto_leave: bool = False
) -> Configuration:
    """Old and new voters together, until leave_joint. Raises InvalidChange."""
    if current.is_joint:
        raise InvalidChange("a joint change is under way already")
    if not current.voters.incoming:
        raise InvalidChange("a cluster without voters cannot enter a joint change")
    incoming = current.voters.incoming
    both = replace(current, voters=JointConfig(incoming, incoming), auto_leave=auto_leave)
    return _apply(both, steps)


def leave_joint(current: Configuration) -> Configuration:
    """The new voters alone. Raises InvalidChange."""
    if not current.is_joint:
        raise InvalidChange("no joint change is under way that could be left")
    learners = current.learners | current.learners_next
    return Configuration(JointConfig(current.voters.incoming), learners)


def changed(current: Configuration, change: ConfChange) -> Configuration:
    """The configuration after `change`, by its transition. Raises InvalidChange.

    What is in force already changes nothing.
    """
    if change.leaves_joint:
        return leave_joint(current)
    if change.transition is not Transition.AUTO:
        implicit = change.transition is Transition.JOINT_IMPLICIT
        return enter_joint(current, change.steps, auto_leave=implicit)
    after = _apply(current, change.steps).voters.incoming
    if current.is_joint or len(after ^ current.voters.incoming) <= 1:
        return simple(current, change.steps)
    return enter_joint(current, change.steps, auto_leave=True)


def _apply(current: Configuration, steps: Iterable[Step]) -> Configuration:
    """The incoming half after these steps, one after the other; the outgoing half stays."""
    incoming, outgoing = current.voters.incoming, current.voters.outgoing
    learners, learners_next = current.learners, current.learners_next
    for step in steps:
        if step.type is ConfChangeType.UPDATE or not step.peer:
            continue
        peer = frozenset({step.peer})
        incoming, learners, learners_next = incoming - peer, learners - peer, learners_next - peer
        if step.type is ConfChangeType.ADD_VOTER:
            incoming |= peer
        elif step.type is ConfChangeType.ADD_LEARNER and step.peer in outgoing:
            learners_next |= peer  # it votes in the old half as yet
        elif step.type is ConfChangeType.ADD_LEARNER:
            learners |= peer
    if not incoming:
        raise InvalidChange("no voter would be left: add another voter before the last one goes")
    return Configuration(
        JointConfig(incoming, outgoing), learners, learners_next, current.auto_leave
    )
