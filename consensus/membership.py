"""Membership changes, one at a time, in force from when they are applied (etcd's rule).

Two guards make that safe: the leader has committed an entry of its own term (Ongaro's correction
of the single-server change, raft-dev 2015-07-10), and the previous change is applied.
"""

from consensus.changes import ConfChange, ConfChangeType, ConfState
from consensus.confchange import InvalidChange, changed
from consensus.errors import ProposalDropped
from consensus.messages import EntryType
from consensus.raft import Raft, Role
from consensus.replication import check_leads, maybe_commit


def propose(raft: Raft, change: ConfChange) -> int:
    """Append a change. Returns its index. Raises ProposalDropped."""
    check_leads(raft)
    _check_guards(raft)
    try:
        target = changed(raft.configuration, change)
    except InvalidChange as error:
        raise ProposalDropped(str(error)) from None
    updates = any(step.type is ConfChangeType.UPDATE for step in change.steps)
    if target == raft.configuration and not updates:
        raise ProposalDropped(f"{_names(change)}: already in force")
    return _append(raft, change)


def _names(change: ConfChange) -> str:
    return ", ".join(f"{step.type.name} {step.peer}" for step in change.steps)


def _append(raft: Raft, change: ConfChange) -> int:
    raft.pending_conf_index = raft.append(EntryType.CONF_CHANGE, change.encode())
    return raft.pending_conf_index


def _check_guards(raft: Raft) -> None:
    if raft.pending_conf_index > raft.log.applied:
        raise ProposalDropped(
            f"the membership change at {raft.pending_conf_index} is not applied yet"
        )
    if not raft.has_committed_in_term():
        raise ProposalDropped("the leader has not committed an entry of its own term yet")


def leave_joint_if_due(raft: Raft) -> None:
    """Leader: end a joint change that ends by itself, once its entry is applied here.

    The entry it appends counts as pending, so that it is appended once.
    """
    if raft.role is not Role.LEADER or not raft.configuration.auto_leave:
        return
    try:
        check_leads(raft)
        _check_guards(raft)
    except ProposalDropped:
        return  # asked again when something was applied, or a transfer ended
    _append(raft, ConfChange())


def apply(raft: Raft, change: ConfChange) -> ConfState:
    """Put a committed change in force. An impossible one changes nothing, on every peer alike."""
    try:
        raft.configure(changed(raft.configuration, change))
    except InvalidChange:
        return raft.conf_state
    if raft.role is Role.LEADER:
        _follow_configuration(raft)
    elif raft.role is not Role.FOLLOWER and not raft.is_voter():
        raft.become_follower(raft.term, None)
    return raft.conf_state


def _follow_configuration(raft: Raft) -> None:
    """Leader: track the members in force; step down when it is no voter any more."""
    if not raft.is_voter():
        raft.become_follower(raft.term, None)
        return
    # A new peer is probed with the last entry, so that a copy of the log is found at once.
    raft.follow_members(max(raft.log.last_index(), 1))
    if raft.lead_transferee not in raft.voters:
        raft.lead_transferee = None
    maybe_commit(raft)  # a smaller quorum may be there already
