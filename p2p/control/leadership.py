"""The leader's side: what it hears of the others, and proposing what the planners decide."""

import contextlib
from collections.abc import Callable, Mapping, Set
from typing import Any

from p2p.clock import Clock
from p2p.control import autopilot, controller
from p2p.control.reached import Reached, farthest
from p2p.control.scaling import pressures
from p2p.errors import Busy, P2PError, Usage
from p2p.raft_host import ELECTION_TICKS, TICK_S, RaftHost
from p2p.replicated.state import State
from p2p.reports import Observed, PeerReport
from p2p.view import Vitals

SUSPECT_S = 1.0


class Leadership:
    """Lives on every peer; plans only while this peer leads."""

    def __init__(
        self,
        raft: RaftHost,
        clock: Clock,
        propose: Callable[[Mapping[str, Any]], int],
        own_report: Callable[[], PeerReport],
        self_id: str,
    ) -> None:
        self._raft = raft
        self._clock = clock
        self._propose = propose
        self._own_report = own_report
        self._self_id = self_id
        self._reports: dict[str, PeerReport] = {}
        self._heard_s: dict[str, float] = {}
        self._down_s: dict[str, float] = {}
        self._ready_s: dict[str, float] = {}
        self._reached: dict[str, Reached] = {}
        self._pressure: dict[str, tuple[str, float]] = {}
        self._steady_from_s: dict[str, float] = {}
        self._planned_index = 0
        self._led_term = 0
        self._blind_until_s = 0.0

    def on_report(self, peer: str, report: PeerReport) -> bool:
        """Whether it says anything new that planners look at."""
        before = self._reports.get(peer)
        self._reports[peer] = report
        self._heard_s[peer] = self._clock.monotonic_s()
        self._reached = farthest(self._reached, report)
        return before is None or before.for_planners != report.for_planners

    def welcome(self, peer: str) -> None:
        """A new process of that peer: what was known of the old one does not count."""
        self._reports.pop(peer, None)
        self._down_s.pop(peer, None)
        self._steady_from_s.pop(peer, None)
        self._heard_s[peer] = self._clock.monotonic_s()

    def down_since_s(self, peer: str) -> float | None:
        """Since when the link to that peer is broken."""
        return self._down_s.get(peer)

    def died(self, peer: str) -> None:
        """What it said before counts no more, or its trainers would seem to have come back."""
        self._reports.pop(peer, None)

    def keep_only(self, peers: Set[str]) -> None:
        """Others have left: over the years those would be many."""
        for told in (self._reports, self._heard_s, self._down_s):
            for peer in told.keys() - peers:
                del told[peer]

    def on_link(self, peer: str, up: bool) -> None:
        if up:
            self._down_s.pop(peer, None)
        else:
            self._down_s.setdefault(peer, self._clock.monotonic_s())

    def overslept(self, seconds: float) -> None:
        """This process did not run for so long: that it heard nobody then says nothing of them.

        Nor does what it heard before: after a long sleep no votes are moved until it has had the
        time to learn who is still there.
        """
        for peer in self._heard_s:
            self._heard_s[peer] += seconds
        if seconds >= ELECTION_TICKS * TICK_S:
            self._blind_until_s = self._clock.monotonic_s() + ELECTION_TICKS * TICK_S

    def forget_old_reports(self) -> None:
        """Another peer leads, or nobody: what is told from now on is told to the new one."""
        self._forget_plans()
        self._reports.clear()
        self._heard_s.clear()

    def _forget_plans(self) -> None:
        """Of another term: they may never be applied."""
        self._planned_index = 0
        self._steady_from_s.clear()

    @property
    def is_settled(self) -> bool:
        """Whether all that was planned is applied."""
        return self._raft.applied >= self._planned_index

    def plan(self, state: State) -> None:
        """Propose the next commands, if this peer leads and all it planned before is applied."""
        if not self._raft.is_leader or not self.is_settled:
            return
        if self._led_term != self._raft.status.term:
            self._begin_term(state)
            return
        if self._raft.status.lead_transferee is not None:
            return  # nothing is taken until it succeeded or timed out
        with contextlib.suppress(Busy):  # planned again at the next look
            for command in controller.plan(state, self._observed(state)):
                self._planned_index = self._take(command)
        self._steer_electorate(state)

    def _take(self, command: Mapping[str, Any]) -> int:
        """Propose; what cannot enter the log must not end one leader after the other."""
        try:
            return self._propose(command)
        except Usage as error:
            kind, concerned = ("serve", "service") if "service" in command else ("job", "job")
            failed = {"type": f"{kind}.fail", concerned: command.get(concerned)}
            return self._propose({**failed, "reason": str(error)})

    def vitals(self) -> dict[str, Vitals]:
        now_s, reports = self._clock.monotonic_s(), self._all_reports()
        return {
            peer: Vitals(
                rss=report.rss,
                cpu_percent=report.cpu_percent,
                suspect=peer != self._self_id
                and (peer in self._down_s or now_s - self._heard_s.get(peer, 0.0) > SUSPECT_S),
                trainers={job: trainer.progress for job, trainer in report.trainers.items()},
                device=report.device,
                gpus=report.gpus,
                figures=report.figures,
            )
            for peer, report in reports.items()
        }

    def _begin_term(self, state: State) -> None:
        # What others have told since they know of this leader counts: they repeat it only later.
        self._led_term = self._raft.status.term
        self._forget_plans()
        if state.cluster_id:
            elected = {"peer": self._self_id, "term": self._led_term}
            self._planned_index = self._propose({"type": "leader.elected", **elected})

    def _observed(self, state: State) -> Observed:
        now_s = self._clock.monotonic_s()
        for peer in state.members:  # whom we never heard, we hear from now on
            self._heard_s.setdefault(peer, now_s)
        reports = self._all_reports()
        self._reached = {job: known for job, known in self._reached.items() if job in state.jobs}
        self._ready_s = {
            trainer.child: self._ready_s.get(trainer.child, now_s)
            for report in reports.values()
            for trainer in report.trainers.values()
            if trainer.is_ready
        }
        told = reports.values()
        self._pressure = pressures(state.services.values(), told, self._pressure, now_s)
        return Observed(
            now_s=now_s,
            reports=reports,
            heard_s={**self._heard_s, self._self_id: now_s},
            down_since_s=self._down_s,
            ready_s=self._ready_s,
            pressure=self._pressure,
            reached={job: known.step for job, known in self._reached.items()},
        )

    def _all_reports(self) -> dict[str, PeerReport]:
        own = self._own_report()
        self._reached = farthest(self._reached, own)
        return {**self._reports, self._self_id: own}

    def _steer_electorate(self, state: State) -> None:
        if self._clock.monotonic_s() < self._blind_until_s:
            return
        decision = autopilot.plan(state.members, self._electorate())
        if isinstance(decision, autopilot.HandOver):
            with contextlib.suppress(P2PError):  # refused for now: asked again at the next tick
                self._raft.transfer(decision.peer)
        elif decision is not None:
            told = {"type": "voters.changed", "reason": decision.reason}
            command = {**told, "at_s": self._clock.unix_s()} if decision.votes else {}
            index = self._raft.change(decision.steps, command)
            self._planned_index = self._planned_index if index is None else index

    def _electorate(self) -> autopilot.Electorate:
        status, now_s = self._raft.status, self._clock.monotonic_s()
        behind = {
            peer: max(0, status.commit - progress.match)
            for peer, progress in status.progress.items()
            if progress.recent_active and peer not in self._down_s
        }
        self._steady_from_s = {
            peer: self._steady_from_s.get(peer, now_s)
            for peer, entries in behind.items()
            if entries < autopilot.CAUGHT_UP_ENTRIES
        }
        return autopilot.Electorate(
            self_id=self._self_id,
            voters=frozenset(status.voters),
            learners=frozenset(status.learners),
            behind=behind,
            steady_s={peer: now_s - from_s for peer, from_s in self._steady_from_s.items()},
            is_joint=bool(status.voters_outgoing or status.learners_next),
        )
