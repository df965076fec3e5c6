"""What a check may look at, and when it is called."""

from collections.abc import Mapping

from consensus.changes import ConfState, SnapshotMeta
from consensus.messages import Entry, HardState, Message
from consensus.node import Ready
from tools.sim.host import Host, View
from tools.sim.oracle import Oracle
from tools.sim.shadow import ShadowLog
from tools.sim.violation import Violation


class Check:
    """One invariant. It overrides the hooks it needs and raises Violation with one sentence."""

    name = ""

    def __init__(self, oracle: Oracle, hosts: Mapping[str, Host]) -> None:
        self.oracle = oracle
        self.hosts = hosts

    def fail(self, sentence: str) -> Violation:
        return Violation(self.name, sentence)

    def on_snapshot(self, host: Host, meta: SnapshotMeta) -> None:
        """Before the host's log starts over from a snapshot; also at a start, with index 0."""

    def on_recovered(self, host: Host, hard_state: HardState, log: ShadowLog) -> None:
        """What the log store found on the disk, before the core starts on it."""

    def on_start(self, host: Host, view: View) -> None:
        """After the core came up on what the disk held."""

    def on_observe(self, host: Host, view: View, before: View) -> None:
        """After each input to the core that changed something; before is what the last look saw."""

    def on_stepped(self, host: Host, message: Message, silence: int) -> None:
        """After the core took a message in, and before host.view shows what that changed.

        `silence`: by how many ticks that moved what the core counts since it heard of a leader.
        """

    def on_ask_read(self, host: Host, context: bytes) -> None:
        """Before the core is asked for a linearizable read."""

    def on_installed(self, host: Host, meta: SnapshotMeta, conf: ConfState) -> None:
        """After a snapshot took the place of the state; `conf` is in force now."""

    def on_ready(self, host: Host, ready: Ready) -> None:
        """Before host.log takes the entries of this Ready."""

    def on_logged(self, host: Host, ready: Ready) -> None:
        """After host.log took them."""

    def on_send(self, host: Host, message: Message) -> None:
        """As a message is released to the network."""

    def on_apply(self, host: Host, entry: Entry) -> None:
        """Before host.applied moves to this entry."""

    def on_applied(self, host: Host) -> None:
        """After everything up to host.applied was applied."""

    def on_configuration(self, host: Host, index: int, conf: ConfState) -> None:
        """After the configuration entry at the index took effect on the host."""
