from collections.abc import Mapping

from consensus.messages import Message, MessageType
from consensus.node import Ready
from tools.sim.checks.base import Check
from tools.sim.host import Host
from tools.sim.oracle import Oracle


class DurableBeforeReply(Check):
    """A promise is on disk before it is on the network: votes, acknowledgements, terms."""

    name = "10 durable before reply"

    def __init__(self, oracle: Oracle, hosts: Mapping[str, Host]) -> None:
        super().__init__(oracle, hosts)
        self._acknowledged: dict[str, tuple[int, int]] = {}  # by host: the term, and up to where

    def on_logged(self, host: Host, ready: Ready) -> None:
        """What one leader was told stays true as long as its term lasts."""
        assert host.view is not None
        term, index = self._acknowledged.get(host.name, (0, 0))
        if term == host.view.term and host.log.last < index:
            raise self.fail(
                f"{host.name} cuts its log at {host.log.last}, though it has acknowledged {index} "
                f"in term {term}."
            )

    def on_send(self, host: Host, message: Message) -> None:
        kind = message.type
        if message.reject:
            return
        if kind is MessageType.VOTE_RESP:
            self._vote(host, message)
        elif kind is MessageType.APP_RESP:
            self._append(host, message)
        elif kind is MessageType.VOTE:
            self._candidacy(host, message)

    def _vote(self, host: Host, message: Message) -> None:
        disk = host.durable
        if disk.term > message.term or (disk.term == message.term and disk.vote == message.to):
            return
        raise self.fail(
            f"{host.name} grants {message.to} its vote in term {message.term}, but its disk says "
            f"term {disk.term}, vote {disk.vote}."
        )

    def _candidacy(self, host: Host, message: Message) -> None:
        disk = host.durable
        if disk.term < message.term:
            raise self.fail(
                f"{host.name} asks for votes in term {message.term} with term {disk.term} on disk."
            )

    def _append(self, host: Host, message: Message) -> None:
        disk = host.durable
        known = self._acknowledged.get(host.name, (0, 0))
        self._acknowledged[host.name] = max(known, (message.term, message.index))
        if disk.term > message.term:
            # A later leader cut that entry in the same moment, so no majority can have promised it:
            # whoever voted for the later one did not, or the later one would hold the entry.
            return
        if disk.term < message.term or disk.log.last < message.index:
            raise self.fail(
                f"{host.name} acknowledges index {message.index} in term {message.term}, but its "
                f"disk holds term {disk.term} and a log to {disk.log.last}."
            )
        leader = self.hosts.get(message.to)
        if leader is None or leader.view is None or disk.term != message.term:
            return
        if (
            leader.view.role == "leader"
            and leader.view.term == message.term
            and (
                leader.log.last < message.index
                or leader.log.chain[message.index] != disk.log.chain[message.index]
            )
        ):
            raise self.fail(
                f"{host.name} acknowledges index {message.index} to {message.to}, whose log up to "
                f"there differs from the one on disk."
            )
