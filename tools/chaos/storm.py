"""Faults, one after the other, each undone after a while. The seed decides which; time does not."""

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import ClassVar

from tools.chaos.crew import Crew, Member

PEERS_MIN, PEERS_MAX = 3, 6
GAP_S = (0.3, 2.5)  # between two faults
LASTS_S = (0.3, 4.0)
WEIGHTS = {
    "kill": 6,
    "pause": 4,
    "transfer": 4,
    "partition": 4,
    "delay": 2,
    "drop": 2,
    "drain": 2,
    "add": 2,
    "remove": 2,
    "kill all": 1,
    "rot": 2,
    "wipe": 1,
}
DRILLS = ("partition", "delay", "drop")
REPAIR_S = 15.0  # after a disk was lost, before the next may be: one at a time can be repaired


class Storm:
    """What is done to whom is in the crew's diary. `counts`: faults of each kind."""

    weights: ClassVar[dict[str, int]] = WEIGHTS
    gap_s = GAP_S

    def __init__(self, crew: Crew, seed: int, kinds: frozenset[str] | None = None) -> None:
        self.crew = crew
        self.rng = Random(seed)
        wanted = self.weights.keys() if kinds is None else kinds
        self.kinds = {kind: weight for kind, weight in self.weights.items() if kind in wanted}
        self.counts: Counter[str] = Counter()
        self._lost_disk_s = float("-inf")
        self._undone: list[tuple[float, int, Callable[[], object]]] = []
        self._number = itertools.count()

    def rage(self, seconds: float, each_second: Callable[[], None] = lambda: None) -> None:
        """Until the time is up; what is broken then stays so for calm()."""
        end_s, next_s = time.monotonic() + seconds, time.monotonic()
        while (now_s := time.monotonic()) < end_s:
            self.crew.watch()
            while self._undone and self._undone[0][0] <= now_s:
                heapq.heappop(self._undone)[2]()
            if now_s >= next_s:
                self._strike()
                next_s = time.monotonic() + self.rng.uniform(*self.gap_s)
                each_second()
            time.sleep(0.05)

    def calm(self) -> None:
        """Everybody may run and talk."""
        self._undone.clear()
        for member in self.crew.of("paused"):
            self.crew.resume(member)
        for member in self.crew.of("down"):
            self.crew.start(member)

    def _strike(self) -> None:
        # Drawn before it is known what is possible: one seed gives one row of wishes.
        kind = self.rng.choices(list(self.kinds), list(self.kinds.values()))[0]
        place, lasts_s = self.rng.random(), self.rng.uniform(*LASTS_S)
        up = [member for member in self.crew.of("up") if member.is_known]
        if not up:
            return
        member = up[int(place * len(up))]
        self.crew.diary.note(f"{kind.upper()} {member.name}, for {lasts_s:.1f} s")
        if self.happens(kind, member, up, lasts_s):
            self.counts[kind] += 1
        else:
            self.crew.diary.note(f"that {kind} was not possible")

    def happens(self, kind: str, member: Member, up: list[Member], lasts_s: float) -> bool:
        crew = self.crew
        if kind == "kill":
            crew.kill(member)
            self.later(lasts_s, lambda: crew.start(member))
        elif kind == "kill all":
            for one in up:
                crew.kill(one)
            for one in up:
                self.later(lasts_s, partial(crew.start, one))
        elif kind == "pause":
            crew.pause(member)
            self.later(lasts_s, lambda: crew.resume(member))
        elif kind == "drain" and len(up) > 1:
            crew.drain(member)
            self.later(lasts_s, lambda: self._start_when_ended(member))
        elif kind in ("rot", "wipe"):
            return self._lose_disk(kind, member, lasts_s)
        elif kind in DRILLS:
            self._drill(kind, member, up, lasts_s)
        elif kind == "transfer":
            return crew.ask("transfer", peer=member.peer.id) is not None
        elif kind == "add" and len(crew.of("up", "down", "paused", "leaving")) < PEERS_MAX:
            crew.add()
        elif kind == "remove" and len(up) > PEERS_MIN:
            member.may_be_removed = True
            return crew.ask("remove", peer=member.peer.id) is not None
        else:
            return False
        return True

    def _lose_disk(self, kind: str, member: Member, lasts_s: float) -> bool:
        """Only while all voters live: what a majority's disks have lost nobody can repair."""
        if time.monotonic() - self._lost_disk_s < REPAIR_S:
            return False
        self.calm()
        deadline_s = time.monotonic() + REPAIR_S
        while not self._all_voters_live():
            if time.monotonic() > deadline_s:
                return False
            self.crew.watch()
            time.sleep(0.2)
        self._lost_disk_s = time.monotonic()
        if kind == "wipe":
            self.crew.wipe(member)
        else:
            self.crew.rot(member, self.rng.random())
            self.later(lasts_s, lambda: self.crew.start(member))
        return True

    def _all_voters_live(self) -> bool:
        status = self.crew.ask("status") or {"peers": []}
        voters = [peer for peer in status["peers"] if peer["role"] in ("leader", "voter")]
        living = [voter for voter in voters if voter["state"] == "alive"]
        return len(living) == len(voters) >= PEERS_MIN and not self.crew.of("down", "leaving")

    def _drill(self, kind: str, member: Member, up: list[Member], lasts_s: float) -> None:
        """One peer, or a few together on one side."""
        side = [member, *self.rng.sample(up, self.rng.randrange(len(up)))]
        side = list({one.name: one for one in side}.values())[: max(1, len(up) // 2)]
        self.crew.diary.note(f"on that side: {' '.join(one.name for one in side)}")
        names = [one.peer.id for one in side]
        for one in side:
            self.crew.ask("fault", at=one, kind=kind, peer=one.peer.id, for_s=lasts_s, side=names)

    def _start_when_ended(self, member: Member) -> None:
        if member.life == "leaving":  # it is still handing over
            self.later(0.3, lambda: self._start_when_ended(member))
        else:
            self.crew.start(member)

    def later(self, delay_s: float, undo: Callable[[], object]) -> None:
        heapq.heappush(self._undone, (time.monotonic() + delay_s, next(self._number), undo))
