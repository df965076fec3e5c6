"""Whether a peer may end without anybody missing it. Pure."""

from collections.abc import Set

from p2p.replicated.state import State


def may_end(peer: str, state: State, voters: Set[str]) -> bool:
    """`voters`: in either half of the configuration."""
    if not any(member.id != peer and member.state == "alive" for member in state.members.values()):
        return True
    seated = any(
        peer in job.members
        for job in state.jobs.values()
        if not job.is_final and not (job.generation and job.generation.closed)
    )
    me = state.members.get(peer)
    return (me is None or me.state == "left") and not seated and peer not in voters
