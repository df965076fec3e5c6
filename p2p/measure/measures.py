"""A peer's own measuring: once a second it reads what there is to read, and keeps the histories.

What happens in between (pings answered, commands applied, ticks that came late, what trainers say)
is recorded when it happens, so that a peak between two readings is not lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from p2p.measure.catalog import find
from p2p.measure.commits import CommitTimer
from p2p.measure.history import Histories, Summary
from p2p.measure.jobs import JobFigures, checkpoint_figures
from p2p.measure.pings import Pings
from p2p.measure.told import FIGURES_MAX
from p2p.raft_host import TICK_S

if TYPE_CHECKING:
    from p2p.peer import Peer

SAMPLE_EVERY_S = 1.0
FRESH_S = 5.0  # what is older than that is not told as the latest


class Measures:
    """Of a peer that was given no System nothing is measured: simulations have none."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._system = peer.parts.system
        self.histories = Histories()
        self._pings = Pings(peer.identity.id)
        self._commits = CommitTimer()
        self._jobs = JobFigures()
        self._lag: Summary | None = None
        self._ticked_s = self._sampled_s = self._now_s
        self._counted: dict[str, float] = {}
        self._first_term: int | None = None
        self._told: dict[str, float] = {}
        self.newest: dict[str, float] = {}  # of all; replaced, never changed: threads may read it

    # -- what happens ---------------------------------------------------------------------------

    def on_tick(self, now_s: float) -> None:
        if self._system is None:
            return
        lag = Summary.of(max(0.0, now_s - self._ticked_s - TICK_S))
        self._lag = lag if self._lag is None else self._lag.and_then(lag)
        self._ticked_s = now_s
        if now_s - self._sampled_s >= SAMPLE_EVERY_S:
            self._sample(now_s)

    def on_link(self, peer: str, up: bool) -> None:
        self._pings.on_link(peer, up)

    def on_reply(self, body: Mapping[str, Any]) -> bool:
        """Whether it was the answer to a ping."""
        pong = self._pings.on_reply(body, self._now_s)
        if pong is None:
            return False
        self._keep(f"link.{pong.peer}.round_trip_s", pong.round_trip_s)
        if pong.clock_skew_s is not None:
            self._keep(f"link.{pong.peer}.clock_skew_s", pong.clock_skew_s)
        return True

    def proposed(self, index: int, began_s: float) -> None:
        self._commits.proposed(index, began_s)

    def applied(self, index: int) -> None:
        took_s = self._commits.applied(index, self._now_s)
        if took_s is not None:
            self._keep("raft.commit_latency_s", took_s)

    def on_trainer(self, job: str, message: Mapping[str, Any]) -> None:
        """What a trainer of this peer said; its fields have been checked."""
        if message["kind"] == "checkpoint":
            figures = checkpoint_figures(message)
        else:
            figures = self._jobs.heard(job, message, self._now_s)
        for name, told in figures.items():
            self._keep(name, told)

    # -- what it says ---------------------------------------------------------------------------

    def told(self) -> dict[str, float]:
        """The newest of those that go to all peers."""
        return self._told

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _now_s(self) -> float:
        return self._peer.parts.clock.monotonic_s()

    def _keep(self, name: str, told: Summary | float) -> None:
        if self._system is not None:
            self.histories.record(name, self._now_s, told)

    def _sample(self, now_s: float) -> None:
        assert self._system is not None
        passed_s, self._sampled_s = now_s - self._sampled_s, now_s
        keep = self.histories.record_all
        keep(now_s, self._system.read(now_s))
        keep(now_s, self._of_process(passed_s))
        keep(now_s, self._of_agreement(now_s, passed_s))
        keep(now_s, self._of_gpus())
        keep(now_s, self._of_content(passed_s))
        for name, figure in self._peer.routing.figures(passed_s).items():
            self.histories.record(name, now_s, figure)
        keep(now_s, self._pings.figures())
        if self._lag is not None:
            self.histories.record("process.loop_lag_s", now_s, self._lag)
            self._lag = None
        self._ping(now_s)
        self.newest = fresh = self.histories.latest(now_s - FRESH_S)
        told = [name for name in fresh if (metric := find(name)) is not None and metric.told]
        self._told = {name: fresh[name] for name in told[:FIGURES_MAX]}

    def _of_process(self, passed_s: float) -> dict[str, float]:
        peer = self._peer
        rss, cpu_percent = peer.parts.measure()
        traffic = peer.mail.traffic
        return {
            "process.rss_bytes": float(rss),
            "process.cpu_percent": cpu_percent,
            "process.dropped_messages": float(peer.mail.dropped),
            "process.sent_bytes_per_s": self._rate("sent", traffic.bytes_sent, passed_s),
            "process.received_bytes_per_s": self._rate("got", traffic.bytes_received, passed_s),
            "process.requests_per_s": self._rate("asked", peer.requests.handled, passed_s),
        }

    def _of_agreement(self, now_s: float, passed_s: float) -> dict[str, float]:
        peer, status = self._peer, self._peer.raft.status
        leads = peer.raft.is_leader
        if not leads:
            self._commits.give_up()
        if self._first_term is None:
            self._first_term = status.term
        return {
            "raft.term": float(status.term),
            "raft.elections": float(status.term - self._first_term),
            "raft.commits_per_s": self._rate("applied", peer.raft.applied, passed_s),
            "raft.log_bytes": float(peer.parts.store.log_bytes),
            "raft.log_entries": float(status.last_index + 1 - status.first_index),
            "raft.behind_entries": float(max(0, status.commit - peer.raft.applied)),
            "raft.leader_silent_s": 0.0 if leads else max(0.0, now_s - peer.hearing.leader_s),
        }

    def _of_gpus(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for number, gpu in enumerate(self._peer.parts.gpus.latest):
            told = {
                "memory_bytes": gpu.memory_used,
                "memory_total_bytes": gpu.memory_total,
                "busy_percent": gpu.utilization,
                "temperature_c": gpu.temperature_c,
                "power_w": gpu.power_w,
                "throttled": gpu.throttled,
            }
            found |= {f"gpu.{number}.{name}": float(v) for name, v in told.items() if v is not None}
        return found

    def _of_content(self, passed_s: float) -> dict[str, float]:
        """What is on its way from other peers; nothing is said where nothing is."""
        going = self._peer.parts.content.progress()
        fetched = sum(done for done, _ in going.values())
        if not going and not self._counted.get("fetched"):
            return {}
        rate = self._rate("fetched", fetched, passed_s)
        return {
            "data.fetched_bytes_per_s": max(0.0, rate),
            "data.fetching_files": float(len(going)),
        }

    def _rate(self, what: str, count: float, passed_s: float) -> float:
        """Per second, since the last time; 0 at first."""
        before = self._counted.get(what, count)
        self._counted[what] = count
        return (count - before) / passed_s

    def _ping(self, now_s: float) -> None:
        peer = self._peer
        linked, count = peer.links.linked, len(peer.state.members)
        asking = self._pings.due(linked, count, now_s, peer.parts.clock.unix_s())
        for other, id_ in asking.items():
            peer.send(other, "request", {"id": id_, "verb": "ping", "args": {}})
