"""What the leader knows: not what was before a long sleep when it moves votes; of the dead, how far
they had come.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from consensus.changes import Step
from consensus.node import Role, Status
from consensus.progress import ProgressState
from consensus.status import PeerStatus
from p2p.clock import ManualClock
from p2p.control.leadership import Leadership
from p2p.raft_host import ELECTION_TICKS, TICK_S, RaftHost
from p2p.replicated.state import State
from tests.peer_fakes import applied, entered, founded, mark, report, running, trainer
from tools.sim.trainers import standing


@dataclass
class LeadingRaft:
    """Leads a, the only voter, with the learners b and c at its heels; notes what it is asked."""

    changes: list[Sequence[Step]] = field(default_factory=list)
    is_leader: bool = True
    applied: int = 100
    term: int = 0

    @property
    def status(self) -> Status:
        follows = PeerStatus(100, 101, ProgressState.REPLICATE, True)
        return Status(
            id="a",
            term=self.term,
            role=Role.LEADER,
            leader="a",
            commit=100,
            applied=100,
            last_index=100,
            voters=("a",),
            learners=("b", "c"),
            progress=dict.fromkeys(("a", "b", "c"), follows),
            lead_transferee=None,
            has_quorum_contact=True,
            first_index=1,
            snapshot_index=0,
            voters_outgoing=(),
            learners_next=(),
            pending_conf_index=0,
        )

    def change(self, steps: Sequence[Step], command: Mapping[str, Any]) -> int | None:
        self.changes.append(steps)
        return None


def test_no_votes_are_moved_on_what_was_known_before_a_long_sleep() -> None:
    """Those who seemed to be there may have died meanwhile: a joint change to a majority of the
    dead could never be completed, nor undone.
    """
    raft, clock = LeadingRaft(), ManualClock()
    leadership = Leadership(cast(RaftHost, raft), clock, lambda _: 0, lambda: report("a"), "a")
    state = founded("a", "b", "c")
    leadership.plan(state)
    clock.advance(5.0)
    leadership.overslept(5.0)
    leadership.plan(state)
    assert raft.changes == []
    clock.advance(ELECTION_TICKS * TICK_S)
    leadership.plan(state)
    assert len(raft.changes) == 1


def test_a_hiccup_is_no_sleep() -> None:
    raft, clock = LeadingRaft(), ManualClock()
    leadership = Leadership(cast(RaftHost, raft), clock, lambda _: 0, lambda: report("a"), "a")
    state = founded("a", "b", "c")
    leadership.plan(state)
    clock.advance(0.9)
    leadership.overslept(0.9)
    leadership.plan(state)
    assert len(raft.changes) == 1


def stepping(number: int, step: int, kind: str = "progress") -> dict[str, Any]:
    return {kind: {**standing(number, step), "samples_per_second": 1.0}}


def test_how_far_trainers_had_come_is_known_when_all_of_them_are_dead() -> None:
    """The newest step that any of them was heard to have made, in the newest generation that made
    one: what was lost with an older one has been said."""
    proposed: list[Mapping[str, Any]] = []
    own = report("a", trainer("a", **stepping(1, 30)))

    def propose(command: Mapping[str, Any]) -> int:
        proposed.append(command)
        return 0

    raft = cast(RaftHost, LeadingRaft())
    leadership = Leadership(raft, ManualClock(), propose, lambda: own, "a")

    def planned(state: State) -> list[Mapping[str, Any]]:
        proposed.clear()
        leadership.plan(state)
        return [told for told in proposed if told["type"] == "job.generation"]

    state = applied(running("a", "b"), mark(1, 20))
    leadership.on_report("b", report("b", trainer("b", **stepping(1, 33))))
    leadership.on_report("b", report("b", trainer("b", **stepping(1, 31, "mark"))))
    assert planned(state) == []
    own = report("a", trainer("a", child="a-2"))
    leadership.on_report("b", report("b", trainer("b", child="b-2")))
    (second,) = planned(state)
    assert (second["number"], second["reached"]) == (2, 33)
    state = applied(state, dict(second), entered(2, 10))
    own = report("a", trainer("a", child="a-2", **stepping(2, 12)))
    assert planned(state) == []
    own = report("a", trainer("a", child="a-3"))
    leadership.on_report("b", report("b", trainer("b", child="b-3")))
    (third,) = planned(state)
    assert (third["number"], third["reached"]) == (3, 12)


def test_what_was_told_to_the_new_leader_before_it_first_plans_counts() -> None:
    """Others tell it as soon as they know of it, and again only half a second later."""
    proposed: list[str] = []

    def propose(command: Mapping[str, Any]) -> int:
        proposed.append(str(command["type"]))
        return 0

    raft, state = LeadingRaft(term=3), running("a", "b")
    own = report("a", trainer("a"))
    leadership = Leadership(cast(RaftHost, raft), ManualClock(), propose, lambda: own, "a")
    leadership.forget_old_reports()
    leadership.on_report("b", report("b", trainer("b", child="b-2")))
    leadership.plan(state)
    assert proposed == ["leader.elected"]
    leadership.plan(state)
    assert proposed[1:] == ["job.generation"]
