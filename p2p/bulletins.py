"""What peers tell each other again and again: each how it is, and the leader how all are.

Reports go to the leader, which plans by them; its digest goes to all, so that whoever is asked
knows. Only the newest counts, so any of them may be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from p2p import digest
from p2p.reports import PeerReport, digest_every_s, parse_report, report_every_s
from p2p.view import Vitals
from p2p.wire.envelope import Malformed

if TYPE_CHECKING:
    from p2p.peer import Peer


class Bulletins:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._digest: dict[str, Vitals] = {}
        self._reported_s = self._digested_s = 0.0

    def on_tick(self, now_s: float) -> None:
        count = len(self._peer.state.members)
        if now_s - self._reported_s >= report_every_s(count):
            self.report_now()
        if self._peer.raft.is_leader and now_s - self._digested_s >= digest_every_s(count):
            self._send_digest(now_s)

    def report(self) -> PeerReport:
        peer = self._peer
        rss, cpu_percent = peer.parts.measure()
        trainers = dict(peer.desk.reports)
        gpus = peer.parts.gpus
        return PeerReport(
            *(peer.identity.member, rss, cpu_percent, peer.leaving, trainers),
            *(gpus.kind, gpus.figures(), peer.measures.told()),
            *(peer.replicas.reports, peer.routing.front.queued()),
        )

    def report_now(self) -> None:
        """Tell the leader where this peer stands; the leader tells itself when it plans."""
        peer = self._peer
        self._reported_s = peer.parts.clock.monotonic_s()
        leader = peer.raft.status.leader
        if leader is not None and leader != peer.identity.id:
            peer.mail.send(leader, "report", self.report().to_wire())

    def on_report(self, sender: str, body: Mapping[str, Any]) -> bool:
        """Whether it says anything new that planners look at. Raises Malformed."""
        report = parse_report(body)
        if report.member["id"] != sender:
            raise Malformed("a report about somebody else")
        is_member = sender in self._peer.state.members
        return is_member and self._peer.leadership.on_report(sender, report)

    def on_digest(self, sender: str, body: Mapping[str, Any]) -> None:
        """Raises Malformed."""
        if sender == self._peer.raft.status.leader:
            self._digest = digest.parse(body)

    def vitals(self) -> dict[str, Vitals]:
        """How all are, as far as this peer knows. Where nobody leads who could judge that, whoever
        it has lost the connection to does not answer."""
        peer = self._peer
        if peer.raft.is_leader:
            return peer.leadership.vitals()
        if peer.raft.status.leader is not None:
            return self._digest
        lost = [id_ for id_ in peer.state.members if peer.leadership.down_since_s(id_) is not None]
        silent = {id_: replace(self._digest.get(id_, Vitals()), suspect=True) for id_ in lost}
        return {**self._digest, **silent}

    def _send_digest(self, now_s: float) -> None:
        self._digested_s = now_s
        me, members = self._peer.identity.id, self._peer.state.members.values()
        others = [member.id for member in members if member.id != me and member.state == "alive"]
        vitals = self._peer.leadership.vitals()
        self._peer.mail.send_all(others, "digest", digest.to_wire(vitals))
