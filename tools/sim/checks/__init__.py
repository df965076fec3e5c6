"""The invariants, one class each, and the list that the simulator runs.

A new invariant is one file here and one line in CHECKS. Order matters once: CommittedImmutable
extends the oracle that LeaderCompleteness and StateMachineSafety read.
"""

from collections.abc import Callable, Mapping

from consensus.changes import ConfState, SnapshotMeta
from consensus.messages import Entry, HardState, Message
from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.checks.commit_rule import CommitRule
from tools.sim.checks.committed_immutable import CommittedImmutable
from tools.sim.checks.durable_before_reply import DurableBeforeReply
from tools.sim.checks.election_safety import ElectionSafety
from tools.sim.checks.generations import Generations
from tools.sim.checks.leader_append_only import LeaderAppendOnly
from tools.sim.checks.leader_completeness import LeaderCompleteness
from tools.sim.checks.log_matching import LogMatching
from tools.sim.checks.membership import Membership
from tools.sim.checks.monotone import Monotone
from tools.sim.checks.no_amnesia import NoAmnesia
from tools.sim.checks.ordering import Ordering
from tools.sim.checks.quorum_log import QuorumLog
from tools.sim.checks.read_floor import ReadFloor
from tools.sim.checks.state_machine_safety import StateMachineSafety
from tools.sim.checks.term_discipline import TermDiscipline
from tools.sim.checks.vote_up_to_date import VoteUpToDate
from tools.sim.host import Host, View
from tools.sim.oracle import Oracle
from tools.sim.shadow import ShadowLog

CHECKS: tuple[type[Check], ...] = (
    ElectionSafety,
    Ordering,
    LeaderAppendOnly,
    LogMatching,
    CommittedImmutable,
    LeaderCompleteness,
    StateMachineSafety,
    Monotone,
    CommitRule,
    DurableBeforeReply,
    TermDiscipline,
    VoteUpToDate,
    QuorumLog,
    Membership,
    NoAmnesia,
    ReadFloor,
    Generations,
)


class Checks:
    """Calls each check's hooks; only those it overrides, because most events concern few checks."""

    def __init__(self, oracle: Oracle, hosts: Mapping[str, Host]) -> None:
        self.oracle = oracle
        self.count = 0
        self.checks = [check(oracle, hosts) for check in CHECKS]
        self._hooks: dict[str, list[Callable[..., None]]] = {
            hook: [
                getattr(check, hook)
                for check in self.checks
                if getattr(type(check), hook) is not getattr(Check, hook)
            ]
            for hook in dir(Check)
            if hook.startswith("on_")
        }

    def _due(self, name: str) -> list[Callable[..., None]]:
        hooks = self._hooks[name]
        self.count += len(hooks)
        return hooks

    def start(self, host: Host, view: View) -> None:
        for hook in self._due("on_start"):
            hook(host, view)

    def observe(self, host: Host, view: View, before: View) -> None:
        for hook in self._due("on_observe"):
            hook(host, view, before)

    def snapshot(self, host: Host, meta: SnapshotMeta) -> None:
        for hook in self._due("on_snapshot"):
            hook(host, meta)

    def recovered(self, host: Host, hard_state: HardState, log: ShadowLog) -> None:
        for hook in self._due("on_recovered"):
            hook(host, hard_state, log)

    def applied(self, host: Host) -> None:
        for hook in self._due("on_applied"):
            hook(host)

    def stepped(self, host: Host, message: Message, silence: int) -> None:
        for hook in self._due("on_stepped"):
            hook(host, message, silence)

    def ask_read(self, host: Host, context: bytes) -> None:
        for hook in self._due("on_ask_read"):
            hook(host, context)

    def installed(self, host: Host, meta: SnapshotMeta, conf: ConfState) -> None:
        for hook in self._due("on_installed"):
            hook(host, meta, conf)

    def ready(self, host: Host, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.snapshot(host, ready.snapshot)
            host.log.install(ready.snapshot.index, self.oracle.committed)
        for hook in self._due("on_ready"):
            hook(host, ready)
        host.log.replace(ready.entries)
        for hook in self._due("on_logged"):
            hook(host, ready)

    def send(self, host: Host, message: Message) -> None:
        for hook in self._due("on_send"):
            hook(host, message)

    def apply(self, host: Host, entry: Entry) -> None:
        for hook in self._due("on_apply"):
            hook(host, entry)

    def configuration(self, host: Host, index: int, conf: ConfState) -> None:
        for hook in self._due("on_configuration"):
            hook(host, index, conf)
