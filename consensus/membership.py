"""Membership changes, one at a time, in force from when they are applied (etcd's rule).

Two guards make that safe: the leader has committed an entry of its own term (Ongaro's correction
of the single-server change, raft-dev 2015-07-10), and the previous change is applied.
"""

from consensus.confchange import InvalidChange, simple_change
from consensus.errors import ProposalDropped
from consensus.messages import ConfChange, ConfState, EntryType
from consensus.raft import Raft, Role
from consensus.replication import maybe_commit
from consensus.replication import propose as propose_entry


def propose(raft: Raft, change: ConfChange) -> int:
    """Append a change. Returns its index. Raises ProposalDropped."""
    if raft.role is Role.LEADER and not raft.mutated("skip-conf-guard"):
        _check_guards(raft)
    try:
        target = simple_change(raft.configuration, change)
    except InvalidChange as error:
        raise ProposalDropped(str(error)) from None
    if target == raft.configuration and raft.role is Role.LEADER:
        raise ProposalDropped(f"{change.peer}: {change.type.name} is already in force")
    index = propose_entry(raft, EntryType.CONF_CHANGE, change.encode())
    raft.pending_conf_index = index
    return index


def _check_guards(raft: Raft) -> None:
    if raft.pending_conf_index > raft.log.applied:
        raise ProposalDropped(
            f"the membership change at {raft.pending_conf_index} is not applied yet"
        )
    if raft.log.term(raft.log.committed) != raft.term:
        raise ProposalDropped("the leader has not committed an entry of its own term yet")


def apply(raft: Raft, change: ConfChange) -> ConfState:
    """Put a committed change in force. An impossible one changes nothing, on every peer alike."""
    try:
        raft.configuration = simple_change(raft.configuration, change)
    except InvalidChange:
        return raft.configuration.conf_state()
    if raft.role is Role.LEADER:
        _follow_configuration(raft)
    elif raft.role is not Role.FOLLOWER and not raft.is_voter():
        raft.become_follower(raft.term, None)
    return raft.configuration.conf_state()


def _follow_configuration(raft: Raft) -> None:
    """Leader: track the members in force; step down when it is no voter any more."""
    if not raft.is_voter():
        raft.become_follower(raft.term, None)
        return
    members = raft.configuration.members()
    for peer in raft.progress.keys() - members:
        del raft.progress[peer]
    for peer in sorted(members - raft.progress.keys()):
        raft.add_progress(peer)
    if raft.lead_transferee not in raft.configuration.voters.ids():
        raft.lead_transferee = None
    maybe_commit(raft)  # a smaller quorum may be there already
