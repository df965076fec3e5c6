"""Whether ranks share memory is agreed: all do or none does, whatever only one of them knows."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from collectives import shm_join
from collectives.errors import Aborted
from collectives.links import Links
from collectives.shm_control import ControlSegment
from collectives.shm_memory import MEMORY
from collectives.shm_operations import SharedOperations
from collectives.shm_segments import Location
from tests.test_shm import held

SIZE = 3


@dataclass
class SomeLinks:
    rank: int
    generation: int = 1
    size: int = SIZE
    job: bytes = b"job-----"
    awaited: frozenset[int] = frozenset()

    def check(self) -> None:
        """It is never over."""


class Meeting:
    """An all_gather between threads; `changed` is what arrives of what rank 1 says first."""

    def __init__(self, changed: Callable[[bytes], bytes] = lambda said: said) -> None:
        self.barrier, self.said = threading.Barrier(SIZE, timeout=10), [b""] * SIZE
        self.changed = changed

    def join(self, links: SomeLinks) -> SharedOperations | None:
        rounds = 0

        def gather(payload: bytes) -> list[bytes]:
            nonlocal rounds
            rounds += 1
            changes = links.rank == 1 and rounds == 1
            self.said[links.rank] = self.changed(payload) if changes else payload
            self.barrier.wait()
            every = list(self.said)
            self.barrier.wait()
            return every

        return shm_join.join(cast(Links, links), gather)


def joined(meeting: Meeting, generations: tuple[int, ...] = (1,) * SIZE) -> list[Any]:
    links = [SomeLinks(rank, generation) for rank, generation in enumerate(generations)]
    with ThreadPoolExecutor(SIZE) as pool:
        return list(pool.map(meeting.join, links, timeout=20))


def elsewhere(invitation: bytes) -> bytes:
    """As if the process had another number here, as in another process namespace."""
    there = Location.unpack(invitation[: Location.LAYOUT.size])
    return replace(there, pid=1).pack() + invitation[Location.LAYOUT.size :]


def test_all_share_when_all_can() -> None:
    made = joined(Meeting())
    assert all(isinstance(one, SharedOperations) for one in made)
    for one in made:
        one.end()


@pytest.mark.parametrize("changed", [elsewhere, lambda said: b"", lambda said: said[:-1] + b"?"])
def test_none_shares_when_one_cannot_be_reached(changed: Callable[[bytes], bytes]) -> None:
    """It is elsewhere, has no shared memory, or is not who it says."""
    before = held()
    assert joined(Meeting(changed)) == [None] * SIZE
    assert held() == before


def test_none_shares_with_another_generation() -> None:
    assert joined(Meeting(), (1, 2, 1)) == [None] * SIZE


def test_none_shares_where_one_cannot_make_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    make, made = ControlSegment.__init__, []

    def fail_once(self: ControlSegment, membership: Any) -> None:
        made.append(self)
        if len(made) == 2:
            raise OSError("no file descriptor is left")
        make(self, membership)

    monkeypatch.setattr(ControlSegment, "__init__", fail_once)
    assert joined(Meeting()) == [None] * SIZE


def test_what_failed_once_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MEMORY, "broken", True)
    assert joined(Meeting()) == [None] * SIZE


def test_a_broken_meeting_leaves_nothing() -> None:
    before = held()
    rounds: list[bytes] = []

    def gather(payload: bytes) -> list[bytes]:
        rounds.append(payload)
        raise Aborted("the generation is over")

    with pytest.raises(Aborted):
        shm_join.join(cast(Links, SomeLinks(0)), gather)
    assert len(rounds) == 1
    assert held() == before
