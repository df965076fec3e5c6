"""Who waits for a linearizable read on a host, and what ends the waiting."""

from consensus.errors import ProposalDropped
from consensus.reads import ReadState
from p2p.read_barriers import ReadBarriers

TIMEOUT = 20


class Asking:
    """Barriers over a core that writes down what it is asked."""

    def __init__(self) -> None:
        self.contexts: list[bytes] = []
        self.ends: list[bool] = []
        self.has_leader = True
        self.barriers = ReadBarriers(self._read_index, TIMEOUT)
        self.barriers.leader_is(1, "a")

    def _read_index(self, context: bytes) -> None:
        if not self.has_leader:
            raise ProposalDropped("no leader is known")
        self.contexts.append(context)

    def ask(self) -> bytes:
        self.barriers.ask(self.ends.append)
        return self.contexts[-1]


def test_a_read_waits_for_its_confirmation_and_then_for_the_state() -> None:
    asking = Asking()
    context = asking.ask()
    asking.barriers.applied(9)
    assert asking.ends == []
    asking.barriers.confirmed([ReadState(10, context)])
    asking.barriers.applied(9)
    assert asking.ends == []
    asking.barriers.applied(10)
    asking.barriers.applied(11)
    assert asking.ends == [True]


def test_every_attempt_has_a_context_of_its_own() -> None:
    asking = Asking()
    first, second = asking.ask(), asking.ask()
    assert first != second
    asking.barriers.confirmed([ReadState(1, first)])
    asking.barriers.applied(1)
    assert asking.ends == [True]


def test_without_a_leader_it_fails_at_once() -> None:
    asking = Asking()
    asking.has_leader = False
    asking.barriers.ask(asking.ends.append)
    assert asking.ends == [False]


def test_it_gives_up_after_an_election_timeout_confirmed_or_not() -> None:
    asking = Asking()
    asking.barriers.tick(5)
    asking.ask()
    asking.barriers.confirmed([ReadState(99, asking.ask())])
    asking.barriers.tick(TIMEOUT - 1)
    assert asking.ends == []
    asking.barriers.tick(1)
    assert asking.ends == [False, False]


def test_another_leader_or_none_ends_what_is_not_confirmed() -> None:
    for term, leader in [(1, None), (2, "a"), (1, "b")]:
        asking = Asking()
        confirmed = asking.ask()
        asking.barriers.confirmed([ReadState(7, confirmed)])
        asking.ask()
        asking.barriers.leader_is(1, "a")
        assert asking.ends == []
        asking.barriers.leader_is(term, leader)
        assert asking.ends == [False]
        asking.barriers.applied(7)  # what was confirmed stays so
        assert asking.ends == [False, True]


def test_who_asks_again_from_its_own_answer_is_served_anew() -> None:
    asking = Asking()
    asking.barriers.ask(lambda ok: asking.barriers.ask(asking.ends.append))
    asking.barriers.tick(TIMEOUT)
    assert (asking.ends, len(asking.contexts)) == ([], 2)
    asking.barriers.confirmed([ReadState(1, asking.contexts[1])])
    asking.barriers.applied(1)
    assert asking.ends == [True]


def test_an_answer_to_somebody_who_gave_up_is_nobodys() -> None:
    asking = Asking()
    context = asking.ask()
    asking.barriers.tick(TIMEOUT)
    asking.barriers.confirmed([ReadState(1, context)])
    asking.barriers.applied(1)
    assert asking.ends == [False]
