"""The log whose end is not durable yet, and the leader's books about the others' logs."""

import pytest

from consensus.errors import SafetyViolation
from consensus.inflights import Inflights
from consensus.log import RaftLog
from consensus.messages import Entry, EntryType
from consensus.progress import Progress, ProgressState
from consensus.storage import MemoryStorage


def log(stable: list[int], unstable: list[int] | None = None, committed: int = 0) -> RaftLog:
    """A log with these terms, durable and not."""
    entries = [Entry(i, t) for i, t in enumerate([*stable, *(unstable or [])], 1)]
    made = RaftLog(MemoryStorage(entries=entries[: len(stable)]), 0)
    made.append(entries[len(stable) :])
    made.committed = committed
    return made


def terms(made: RaftLog) -> list[int]:
    return [e.term for e in made.entries(1, made.last_index() + 1, 1 << 30)]


@pytest.mark.parametrize(
    ("index", "expected", "unstable"),
    [
        (6, [1, 1, 2, 2, 3, 9], [3, 9]),  # plain append
        (5, [1, 1, 2, 2, 9], [9]),  # replaces all that is unstable
        (3, [1, 1, 9], [9]),  # reaches into what is durable
    ],
)
def test_append_truncates_first(index: int, expected: list[int], unstable: list[int]) -> None:
    made = log([1, 1, 2, 2], [3])
    made.append([Entry(index, 9)])
    assert terms(made) == expected
    assert [e.term for e in made.unstable] == unstable


def test_what_is_committed_is_never_replaced() -> None:
    made = log([1, 1], [2], committed=2)
    with pytest.raises(SafetyViolation, match="2 is committed"):
        made.append([Entry(2, 3)])
    assert terms(made) == [1, 1, 2]


def test_a_write_that_finishes_late_does_not_hide_newer_entries() -> None:
    made = log([1], [1, 1])  # 2 and 3 are being written …
    made.append([Entry(3, 2)])  # … while a new leader replaces 3
    made.stable_to(3, 1)
    assert [(e.index, e.term) for e in made.unstable] == [(2, 1), (3, 2)]
    made.stable_to(3, 2)
    assert made.unstable == []


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [
        (9, 1, (2, 1)),
        (9, 2, (2, 1)),
        (9, 3, (4, 3)),
        (9, 9, (6, 5)),
        (3, 5, (3, 3)),
        (9, 0, (0, 0)),
        (0, 5, (0, 0)),
    ],
)
def test_find_conflict_by_term(index: int, term: int, expected: tuple[int, int]) -> None:
    assert log([1, 1, 3, 3, 5, 5]).find_conflict_by_term(index, term) == expected


def test_entries_are_cut_to_bytes_across_the_durable_border() -> None:
    entries = [Entry(i, 1, EntryType.NORMAL, b"x" * 10) for i in range(1, 7)]
    made = RaftLog(MemoryStorage(entries=entries[:3]), 0)
    made.append(entries[3:])
    for limit, count in [(0, 1), (10, 1), (19, 1), (20, 2), (30, 3), (40, 4), (59, 5), (60, 6)]:
        assert [e.index for e in made.entries(1, 7, limit)] == list(range(1, count + 1))
    assert [e.index for e in made.entries(4, 6, 100)] == [4, 5]


def test_a_log_that_lost_committed_entries_is_refused() -> None:
    with pytest.raises(ValueError, match="lost"):
        RaftLog(MemoryStorage(entries=[Entry(1, 1)]), committed=2)


# -- progress --------------------------------------------------------------------------------------


def replicating(match: int, *sent: int, window: int = 3) -> Progress:
    progress = Progress(match + 1, Inflights(window, 1 << 20), match=match)
    progress.become_replicate()
    for index in sent:
        progress.sent(index, 1, 8, 0)
    return progress


def test_match_never_falls_and_next_stays_above_it() -> None:
    progress = replicating(5, 6, 7)
    assert progress.acknowledged(7)
    for late in (3, 6, 7):
        assert not progress.acknowledged(late)
    assert (progress.match, progress.next) == (7, 8)


def test_the_window_fills_and_frees() -> None:
    progress = replicating(0, 1, 2, 3)
    assert progress.window.full
    progress.acknowledged(2)
    assert not progress.window.full
    progress.sent(4, 1, 8, 0)
    progress.sent(5, 1, 8, 0)
    assert progress.window.full
    progress.acknowledged(5)
    assert not progress.window.full


@pytest.mark.parametrize(
    ("rejected", "hint", "news", "next_index"),
    [(5, 0, False, 9), (4, 0, False, 9), (8, 0, True, 6), (6, 9, True, 6)],
)
def test_a_rejection_while_streaming(rejected: int, hint: int, news: bool, next_index: int) -> None:
    progress = replicating(5, 6, 7, 8, window=9)
    assert progress.rejected(rejected, hint) is news
    assert progress.next == next_index
    assert progress.state is (ProgressState.PROBE if news else ProgressState.REPLICATE)


@pytest.mark.parametrize(
    ("rejected", "hint", "news", "next_index"),
    [(9, 0, False, 9), (8, 7, True, 8), (8, 3, True, 4), (8, 0, True, 3), (8, 99, True, 8)],
)
def test_a_rejection_while_probing(rejected: int, hint: int, news: bool, next_index: int) -> None:
    progress = Progress(9, Inflights(3, 1 << 20), match=2)
    progress.sent(9, 1, 8, 0)
    assert progress.rejected(rejected, hint) is news
    assert progress.next == next_index
    assert progress.paused is not news
