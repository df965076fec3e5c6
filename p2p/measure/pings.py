"""How long a message takes to another peer and back, and how many get no answer. Pure.

A ping is a request on the control link that any peer answers, one of an older version with the
error that it does not know it, which says as much of the way. The more peers there are, the rarer
they are sent: nobody sends or answers more than about PINGS_PER_S.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

EVERY_S = 1.0
PINGS_PER_S = 16
LOST_AFTER_S = 3.0
REMEMBERED = 20  # pings per peer, of which the lost ones are counted


@dataclass(frozen=True, slots=True)
class Pong:
    peer: str
    round_trip_s: float
    clock_skew_s: float | None  # how far its clock is ahead; None if it does not say


@dataclass(slots=True)
class _Link:
    asked: dict[str, tuple[float, float]] = field(default_factory=dict)  # by id: when; by clock
    came: deque[bool] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    asked_s: float = float("-inf")
    ups: int = 0
    last: "Pong | None" = None


class Pings:
    """`self_id` makes ids that no other request has. Times are monotonic seconds; unix_s, by the
    clock on the wall."""

    def __init__(self, self_id: str) -> None:
        self._prefix = f"ping.{self_id}."
        self._count = 0
        self._links: dict[str, _Link] = {}
        self.reconnects = 0

    def due(self, linked: Iterable[str], peers: int, now_s: float, unix_s: float) -> dict[str, str]:
        """Whom to ping now, and by which id; `peers` = how many the cluster has. Those that are no
        longer linked are forgotten."""
        linked = set(linked)
        for gone in self._links.keys() - linked:
            del self._links[gone]
        every_s = max(EVERY_S, peers / PINGS_PER_S)
        asking: dict[str, str] = {}
        for peer in sorted(linked):
            link = self._links.setdefault(peer, _Link())
            for late in [
                id_ for id_, (at_s, _) in link.asked.items() if now_s - at_s >= LOST_AFTER_S
            ]:
                del link.asked[late]
                link.came.append(False)
            if now_s - link.asked_s >= every_s and len(asking) < PINGS_PER_S:
                self._count += 1
                id_ = f"{self._prefix}{self._count}"
                link.asked[id_] = now_s, unix_s
                link.asked_s = now_s
                asking[peer] = id_
        return asking

    def on_reply(self, body: Mapping[str, Any], now_s: float) -> Pong | None:
        """None if it answers no ping that is waited for."""
        id_ = body.get("id")
        if not isinstance(id_, str) or not id_.startswith(self._prefix):
            return None
        for peer, link in self._links.items():
            asked = link.asked.pop(id_, None)
            if asked is not None:
                link.came.append(True)
                trip_s = max(0.0, now_s - asked[0])
                skew_s = _skew_s(body.get("ok"), asked[1] + trip_s / 2)
                link.last = Pong(peer, trip_s, skew_s)
                return link.last
        return None

    def on_link(self, peer: str, up: bool) -> None:
        link = self._links.setdefault(peer, _Link())
        if up:
            self.reconnects += link.ups > 0
            link.ups += 1
        else:
            link.last = None
            link.asked.clear()  # what was under way is the link's fault, and that is counted

    def figures(self) -> dict[str, float]:
        """Of those links that have something to tell: loss and reconnects of healthy ones are
        not worth a series each."""
        told: dict[str, float] = {"link.all_reconnects": float(self.reconnects)}
        worst = 0.0
        for peer, link in self._links.items():
            lost = 100.0 * link.came.count(False) / len(link.came) if link.came else 0.0
            worst = max(worst, lost)
            if lost:
                told[f"link.{peer}.loss_percent"] = lost
            if link.ups > 1:
                told[f"link.{peer}.reconnects"] = link.ups - 1.0
        pongs = [link.last for link in self._links.values() if link.last is not None]
        skews_s = [abs(pong.clock_skew_s) for pong in pongs if pong.clock_skew_s is not None]
        if pongs:
            told["link.worst_round_trip_s"] = max(pong.round_trip_s for pong in pongs)
        if skews_s:
            told["link.worst_clock_skew_s"] = max(skews_s)
        return {**told, "link.worst_loss_percent": worst}


def _skew_s(told: Any, middle_s: float) -> float | None:
    """Against this peer's clock in the middle of the way there and back."""
    at_s = told.get("at") if isinstance(told, dict) else None
    return at_s - middle_s if isinstance(at_s, float) else None
