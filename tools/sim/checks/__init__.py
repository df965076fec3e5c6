"""The invariants, one class each, and the list that the simulator runs.

A new invariant is one file here and one line in CHECKS. Order matters once: CommittedImmutable
extends the oracle that LeaderCompleteness and StateMachineSafety read.
"""

from collections.abc import Mapping

from consensus.changes import ConfState
from consensus.messages import Entry, Message
from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.checks.commit_rule import CommitRule
from tools.sim.checks.committed_immutable import CommittedImmutable
from tools.sim.checks.durable_before_reply import DurableBeforeReply
from tools.sim.checks.election_safety import ElectionSafety
from tools.sim.checks.leader_append_only import LeaderAppendOnly
from tools.sim.checks.leader_completeness import LeaderCompleteness
from tools.sim.checks.log_matching import LogMatching
from tools.sim.checks.membership import Membership
from tools.sim.checks.monotone import Monotone
from tools.sim.checks.ordering import Ordering
from tools.sim.checks.state_machine_safety import StateMachineSafety
from tools.sim.checks.term_discipline import TermDiscipline
from tools.sim.host import Host, View
from tools.sim.oracle import Oracle

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
    Membership,
)


class Checks:
    """Calls each check's hooks; only those it overrides, because most events concern few checks."""

    def __init__(self, oracle: Oracle, hosts: Mapping[str, Host]) -> None:
        self.checks = [check(oracle, hosts) for check in CHECKS]
        self._hooks = {
            hook: [
                getattr(check, hook)
                for check in self.checks
                if getattr(type(check), hook) is not getattr(Check, hook)
            ]
            for hook in dir(Check)
            if hook.startswith("on_")
        }

    def start(self, host: Host, view: View) -> None:
        for hook in self._hooks["on_start"]:
            hook(host, view)

    def observe(self, host: Host, view: View, before: View) -> None:
        for hook in self._hooks["on_observe"]:
            hook(host, view, before)

    def stepped(self, host: Host, message: Message) -> None:
        for hook in self._hooks["on_stepped"]:
            hook(host, message)

    def ready(self, host: Host, ready: Ready) -> None:
        for hook in self._hooks["on_ready"]:
            hook(host, ready)
        host.log.replace(ready.entries)
        for hook in self._hooks["on_logged"]:
            hook(host, ready)

    def synced(self, host: Host) -> None:
        for hook in self._hooks["on_synced"]:
            hook(host)

    def send(self, host: Host, message: Message) -> None:
        for hook in self._hooks["on_send"]:
            hook(host, message)

    def apply(self, host: Host, entry: Entry) -> None:
        for hook in self._hooks["on_apply"]:
            hook(host, entry)

    def configuration(self, host: Host, index: int, conf: ConfState) -> None:
        for hook in self._hooks["on_configuration"]:
            hook(host, index, conf)
