"""Trainers measure alike and so wish alike; nothing is measured where nothing is to choose."""

from functools import partial

import pytest

from collectives.codecs import Vector
from p2p.errors import Usage
from p2p.training.choosing import CHOICES, Choice
from p2p.training.method import Method, changed, check, submitted
from p2p.training.tuner import MARKS_PER_WINDOW, ROUNDS_LEFT_OUT, ROUNDS_MIN, Tuner, coding_seconds
from tests.fake_group import groups, together

VECTOR = Vector(1 << 16, 12)
AUTO = Method("ring", "int32", auto=True)


class Crew:
    """Three trainers; `windows` lets them measure and compare."""

    def __init__(self, size: int = 3, method: Method = AUTO) -> None:
        self.now_s = 0.0
        self.groups = groups(size)
        self.tuners = [Tuner(lambda: self.now_s) for _ in range(size)]
        self.enter(method)

    def enter(self, method: Method) -> None:
        for tuner in self.tuners:
            tuner.enter(method, VECTOR, 12 // len(self.tuners))
            for _ in range(ROUNDS_LEFT_OUT):
                tuner.round(9.0, 9.0, 1)

    def windows(self, count: int, compute_s: float, exchange_s: float) -> None:
        for _ in range(count):
            self.now_s += 2.0
            for _ in range(MARKS_PER_WINDOW):
                for tuner in self.tuners:
                    for _ in range(ROUNDS_MIN):
                        tuner.round(compute_s, exchange_s, 1)
                together(
                    [partial(t.mark, g) for t, g in zip(self.tuners, self.groups, strict=True)]
                )


def test_all_wish_the_same_and_forget_it_in_the_next_generation() -> None:
    crew = Crew()
    crew.windows(14, 0.01, 30.0)
    assert [tuner.wish for tuner in crew.tuners] == [None] * 3  # too early after the start
    crew.windows(3, 0.01, 30.0)
    (wish, *others) = [tuner.wish for tuner in crew.tuners]
    assert wish is not None
    assert wish.choice != Choice("ring", "int32")
    assert all(other is not None and other.choice == wish.choice for other in others)
    assert "the exchange takes 100% of a step" in wish.reason
    crew.enter(Method(wish.choice.strategy, wish.choice.codec, auto=True))
    assert crew.tuners[0].wish is None
    crew.windows(5, 0.01, 0.001)
    assert crew.tuners[0].wish is None


@pytest.mark.parametrize(
    "crew",
    [Crew(method=Method("ring", "int32")), Crew(1), Crew(method=Method("x", "y", auto=True))],
)
def test_nothing_is_wished_without_auto_or_alone_or_from_what_is_unknown(crew: Crew) -> None:
    crew.windows(30, 0.01, 30.0)
    assert all(tuner.wish is None for tuner in crew.tuners)


def test_only_choices_that_can_be_made_are_timed() -> None:
    few = coding_seconds(VECTOR, 4)
    assert all(seconds > 0 for seconds in few.values())
    assert Choice("ring", "int8") in few
    assert {choice.codec for choice in coding_seconds(Vector(100, 1000), 4)} <= {
        *("int32", "int16", "topk:0.01")
    }
    assert set(few) <= set(CHOICES)


def test_what_auto_may_choose_is_checked() -> None:
    wide = submitted("auto", "int32", {"allow": "any"})
    check(wide, 12)
    with pytest.raises(Usage, match="allow is 'all': there is order-free, any"):
        check(submitted("auto", "int32", {"allow": "all"}), 12)
    check(submitted("ring", "int32", {"allow": "all"}), 12)  # the task's own business
    assert changed(wide, {"allow": "order-free"}, 12).options == {"allow": "order-free"}
    assert changed(AUTO, {"strategy": "auto", "allow": "any"}, 12).auto
    with pytest.raises(Usage, match="allow cannot be set while the strategy is ring"):
        changed(Method("ring", "int32"), {"allow": "any"}, 12)
