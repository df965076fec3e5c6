"""Whom this peer keeps a link to: voters to everybody, learners only to the voters, the leader and
who answers prompts.

So 50 peers need a few hundred connections instead of thousands, and whoever is elected reaches
everybody at once. Addresses come from the log; a joiner, whose log names nobody yet, answers whom
it hears, and a limited number of such strangers.
"""

from collections.abc import Mapping
from typing import Any

from consensus.node import Status
from p2p.raft_host import all_voters
from p2p.replicated.state import Member
from p2p.wire.network import Network

STRANGERS_MAX = 16


def links_wanted(
    self_id: str, members: frozenset[str], status: Status, answering: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Peers to be linked to, of `members` and those in the configuration. To those that answer
    prompts everybody is, for anybody may be asked.
    """
    voters = all_voters(status)
    if self_id in voters or status.leader == self_id:
        wanted = members | voters | frozenset(status.learners)
    else:
        wanted = voters | frozenset({status.leader} if status.leader is not None else ())
    return (wanted | (answering & members)) - {self_id}


class Links:
    def __init__(self, self_id: str, network: Network) -> None:
        self._self_id = self_id
        self._network = network
        self.linked: set[str] = set()
        self._strangers: dict[str, None] = {}  # linked but in no log of ours; the newest last
        self._members: Mapping[str, Member] = {}
        self._sight: tuple[Any, ...] = ()
        self._known: frozenset[str] = frozenset()

    def follow(
        self,
        members: Mapping[str, Member],
        status: Status,
        answering: frozenset[str] = frozenset(),
    ) -> list[str]:
        """Relink after a change of members, voters or leader; returns who is linked no more.

        Also when a member said again what the log knew already: an old message of its may have
        come after it had moved, and the link may be to where it was.
        """
        voting = (status.voters, status.voters_outgoing)
        sight = (*voting, status.learners, status.leader, answering)
        if members is self._members and sight == self._sight:
            return []
        self._members, self._sight = members, sight
        voters = all_voters(status)
        self._known = frozenset({*members, *voters, *status.learners})
        wanted = links_wanted(self._self_id, frozenset(members), status, answering)
        for peer in sorted(wanted & members.keys()):
            self._link(peer, members[peer].address)
        strangers = {peer: None for peer in self._strangers if peer not in self._known}
        self._strangers = strangers
        surplus = sorted(self.linked - wanted - strangers.keys())
        for peer in surplus:
            self._unlink(peer)
        return surplus

    def knows(self, peer: str) -> bool:
        """Whether the log names it."""
        return peer in self._known

    def heard(self, sender: str, address: str) -> None:
        """Answer at the address it names: it may be new, or not in our log yet."""
        self._link(sender, address)
        if sender in self._known:
            return
        self._strangers.pop(sender, None)
        self._strangers[sender] = None
        if len(self._strangers) > STRANGERS_MAX:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            self._unlink(oldest)

    def _link(self, peer: str, address: str) -> None:
        self.linked.add(peer)
        self._network.connect(peer, address)

    def _unlink(self, peer: str) -> None:
        self.linked.discard(peer)
        self._network.disconnect(peer)
