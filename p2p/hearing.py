"""When a peer heard Raft's messages of whom: what its trainers' lease and its elections rest on."""

from consensus.node import Role, Status
from p2p.clock import Clock
from p2p.raft_host import TICK_S, is_configured

STOPPED_S = 3 * TICK_S  # without a tick for so long, this process was stopped, or its host was busy
BACKLOG_S = 0.5  # what came in meanwhile has been read so long after


class Hearing:
    """Times are seconds of this peer's monotonic clock.

    A message counts from when it is read, and while what came in during a stop is read, from before
    the stop: its sender may have given this peer up since.
    """

    def __init__(self, self_id: str, clock: Clock) -> None:
        self._self_id = self_id
        self._clock = clock
        self._heard_s: dict[str, float] = {}  # of those in the configuration
        self._ran_s = self._stopped_s = clock.monotonic_s()
        self._backlog_until_s = 0.0
        self.leader_s = clock.monotonic_s()  # when the leader of that moment was heard last

    def on_tick(self) -> None:
        self._note_stop()
        self._ran_s = self._clock.monotonic_s()

    def heard(self, sender: str, status: Status) -> None:
        self._note_stop()
        now_s = self._clock.monotonic_s()
        at_s = self._stopped_s if now_s < self._backlog_until_s else now_s
        if is_configured(sender, status):
            if sender not in self._heard_s:  # a newcomer: time to forget who has left
                self._heard_s = {
                    peer: at_s
                    for peer, at_s in self._heard_s.items()
                    if is_configured(peer, status)
                }
            self._heard_s[sender] = max(at_s, self._heard_s.get(sender, 0.0))
        if sender == status.leader:
            self.leader_s = max(at_s, self.leader_s)

    def _note_stop(self) -> None:
        """Whichever comes first after a stop, a tick or a message."""
        now_s = self._clock.monotonic_s()
        if now_s - self._ran_s > STOPPED_S:
            self._stopped_s, self._backlog_until_s = self._ran_s, now_s + BACKLOG_S
            self._ran_s = now_s

    def led_from_s(self, status: Status) -> float:
        """When this peer last knew that there was no newer leader. A leader that is cut off may
        lead for two election time-outs more: for it, it is when a majority was heard last.
        """
        if status.role is not Role.LEADER:
            return self.leader_s
        heard_s = {**self._heard_s, self._self_id: self._clock.monotonic_s()}
        halves = [half for half in (status.voters, status.voters_outgoing) if half]
        return min(
            sorted((heard_s.get(voter, 0.0) for voter in half), reverse=True)[len(half) // 2]
            for half in halves
        )
