"""plan(state, observed) -> commands: what the leader proposes next, as small rules with reasons.

Pure: everything it knows is in its arguments. The host runs it only when all it proposed before
has been applied, so a rule need not remember what it already asked for.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from p2p.control.awaited import awaited
from p2p.control.jobs import plan_job
from p2p.control.placement import plan_assignments
from p2p.control.services import plan_services
from p2p.replicated.state import Member, State
from p2p.reports import Observed

Command = dict[str, Any]

# A connection that breaks and is not back after this long is a death, not a hiccup.
GRACE_S = 0.06
# Nothing heard on a standing connection: a hang or a partition.
SILENT_S = 2.0


def plan(state: State, observed: Observed) -> list[Command]:
    """Commands in the order they shall be proposed."""
    commands = [*_plan_members(state, observed), *_plan_jobs(state, observed)]
    # Whose peers or end was decided just now is placed again only when that has been applied.
    decided = {command["job"] for command in commands if command["type"] in _DECIDES_PEERS}
    peers = usable_peers(state, observed)
    missed = {
        job.id: awaited(job, state.members, peers.keys(), observed)
        for job in state.jobs.values()
        if not job.is_final
    }
    served = list(plan_services(state, peers, observed))
    if any(command["type"] in ("serve.assign", "job.assign") for command in served):
        return commands + served  # both may want the same slot
    devices = {peer: report.device for peer, report in observed.reports.items()}
    placed = plan_assignments(state, peers, missed, devices)
    commands += served
    return commands + [command for command in placed if command["job"] not in decided]


def reachable(member: Member, observed: Observed) -> str | None:
    """None if the peer answers, else the sentence that says why it counts as dead."""
    down_s = observed.down_since_s.get(member.id)
    if down_s is not None and observed.now_s - down_s >= GRACE_S:
        return "its connection broke"
    silent_s = observed.now_s - observed.heard_s.get(member.id, observed.now_s)
    if silent_s >= SILENT_S:
        return f"not heard of for {silent_s:.1f} s"
    return None


def usable_peers(state: State, observed: Observed) -> dict[str, Member]:
    """Peers that can train now: alive by the log and by what the leader sees."""
    return {
        member.id: member
        for member in state.members.values()
        if member.state == "alive" and reachable(member, observed) is None
    }


def _plan_members(state: State, observed: Observed) -> Iterator[Command]:
    for member in state.members.values():
        problem = reachable(member, observed)
        report = observed.reports.get(member.id)
        if member.state == "alive" and problem is not None:
            yield {
                "type": "member.dead",
                "peer": member.id,
                "incarnation": member.incarnation,
                "reason": problem,
            }
        if report is None or problem is not None:
            continue
        # A peer may come back at an address the leader could not know; the report says it all.
        told: Mapping[str, Any] = report.member
        known = (member.incarnation, member.address, member.slots)
        if (told["incarnation"], told["address"], told["slots"]) != known:
            yield {"type": "member.join", "member": dict(told)}
        elif member.state == "dead" and not report.leaving:
            yield {"type": "member.alive", "peer": member.id}


def _plan_jobs(state: State, observed: Observed) -> Iterator[Command]:
    usable = usable_peers(state, observed).keys()
    for job in state.jobs.values():
        if not job.is_final:
            yield from plan_job(job, state.members, usable, observed)


_DECIDES_PEERS = frozenset({"job.assign", "job.fail", "job.finish"})
