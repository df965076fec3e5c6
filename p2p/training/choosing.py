"""Which strategy and codec a job should use now, from what its trainers measured. Pure.

`plan(window, memory, limits, now_s)` predicts the time of a step under every choice, and asks for
another one when it would be enough better for long enough. Prediction, all per step:

    ring:       slowest + jitter + wire
    local-sgd:  slowest + jitter / sqrt(H) + wire / H       one exchange in H steps

slowest = the mean compute time of the slowest trainer, which all wait for under either; jitter =
what is waited for because now this one, now that one is slow (over H steps it averages out); wire =
latency + coding + bytes / bandwidth, of which only the last two change with the codec.

Against flapping: a choice that changes more about the training than the time must win by more
(`handicap`); the gain must exceed the margin in several windows in a row; switches keep a distance,
which doubles with every switch back, and such a one needs twice the margin; what choices turned out
to cost corrects what is predicted for them (`learned`, forgotten slowly), so a gain that did not
come is not soon hoped for again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Choice:
    strategy: str
    codec: str

    def __str__(self) -> str:
        return f"{self.strategy} with {self.codec}"


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a choice beforehand: bytes per value on the wire (of an all-reduce that
    passes everything on once), how much better it must be to be worth its side effects, and whether
    the weights stay independent of who takes part."""

    bytes_per_value: float
    handicap: float
    keeps_promise: bool = True


CHOICES: dict[Choice, Kind] = {
    Choice("ring", "int32"): Kind(4.03, 1.0),
    Choice("ring", "int16"): Kind(2.03, 1.12),
    Choice("ring", "int8"): Kind(1.03, 1.4),
    Choice("local-sgd", "int32"): Kind(4.03, 2.0),
    Choice("local-sgd", "int8"): Kind(1.03, 2.2),
    Choice("ring", "topk:0.01"): Kind(0.08, 2.0, keeps_promise=False),
}
FIRST = Choice("ring", "int32")
MOMENTS_BYTES = 8.06  # per value of the model: two, as of an optimizer like Adam, always as int32
PEACE = 8  # times the distance between switches without one: the next is like the first
REMEMBERED = 0.99  # of what was learned, per window: half is gone after 69


@dataclass(frozen=True, slots=True)
class Limits:
    """`margin` = by how much a step must get faster; `windows` in a row; `apart_s` between two
    switches. `inner_steps` = H of local-sgd, which also sends the optimizer's moments unless they
    begin anew in every round."""

    margin: float = 0.1
    windows: int = 3
    apart_s: float = 30.0
    apart_max_s: float = 960.0
    inner_steps: int = 8
    moments_sent: bool = True
    any_choice: bool = False  # also those that do not keep the promise


@dataclass(frozen=True, slots=True)
class Window:
    """Means per step over some steps under `choice`, by trainer. Seconds.

    `wire_s` = one exchange without any waiting for others (the shortest of the window), `latency_s`
    = one exchange of next to nothing; `coding_s` = rounding and unrounding one step's values, by
    choice that can be made; none = all can be, at no cost.
    """

    choice: Choice
    values: int
    compute_s: tuple[float, ...]
    exchange_s: tuple[float, ...]
    wire_s: float
    latency_s: float
    coding_s: Mapping[Choice, float] = field(default_factory=dict)

    @property
    def step_s(self) -> float:
        """All take the same time for a step: they wait for each other."""
        both = [a + b for a, b in zip(self.compute_s, self.exchange_s, strict=True)]
        return sum(both) / len(both)


@dataclass(frozen=True, slots=True)
class Wish:
    choice: Choice
    reason: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What the planner carries from window to window; the first one knows only when it began.

    `learned` = by choice, measured over predicted time of a step around the last switch to or from
    it. `hoped_s` and `had_s` = the step time the last switch was made for, and what it was before,
    until the first window after it.
    """

    switched_s: float
    apart_s: float
    favourite: Choice | None = None
    streak: int = 0
    previous: Choice | None = None
    learned: Mapping[Choice, float] = field(default_factory=dict)
    hoped_s: float | None = None
    had_s: float = 0.0


def begin(limits: Limits, now_s: float) -> Memory:
    return Memory(switched_s=now_s, apart_s=limits.apart_s)


def plan(
    window: Window, memory: Memory, limits: Limits, now_s: float
) -> tuple[Memory, Wish | None]:
    """The memory for the next window, and the choice to ask for now, if any.

    Who asks acts on it at once, or the same is asked again after `apart_s`.
    """
    if not usable(window):
        return replace(memory, streak=0), None
    predicted = predict(window, limits)
    memory = _learn(memory, window, predicted)
    corrected = {
        choice: seconds * memory.learned.get(choice, 1.0) for choice, seconds in predicted.items()
    }
    corrected[window.choice] = window.step_s
    scores = {choice: seconds * CHOICES[choice].handicap for choice, seconds in corrected.items()}
    best = min(scores, key=lambda choice: scores[choice])
    gain = scores[window.choice] / scores[best] - 1.0
    in_peace = now_s - memory.switched_s > PEACE * memory.apart_s
    back = best in memory.learned and not in_peace
    if best == window.choice or gain <= limits.margin * (2 if back else 1):
        return replace(memory, favourite=None, streak=0), None
    streak = memory.streak + 1 if best == memory.favourite else 1
    memory = replace(memory, favourite=best, streak=streak)
    if streak < limits.windows or now_s - memory.switched_s < memory.apart_s:
        return memory, None
    apart_s = min(limits.apart_max_s, memory.apart_s * 2) if back else memory.apart_s
    apart_s = limits.apart_s if in_peace else apart_s
    memory = Memory(
        switched_s=now_s,
        apart_s=apart_s,
        previous=window.choice,
        learned=memory.learned,
        hoped_s=predicted[best],
        had_s=window.step_s,
    )
    return memory, Wish(best, _why(window, best, corrected[best], limits))


def usable(window: Window) -> bool:
    """Whether there is something to decide: several trainers, real numbers, a known choice."""
    numbers = [*window.compute_s, *window.exchange_s, window.wire_s, window.latency_s]
    return (
        window.choice in CHOICES
        and len(window.compute_s) == len(window.exchange_s) > 1
        and all(math.isfinite(number) and number >= 0 for number in numbers)
        and window.step_s > 0
    )


def predict(window: Window, limits: Limits) -> dict[Choice, float]:
    """Seconds per step under every choice that may be made."""
    slowest = max(window.compute_s)
    span = _span(window.choice, limits)
    latency = min(window.latency_s, window.wire_s)
    coding = window.coding_s.get(window.choice, 0.0)
    on_the_line = max(0.0, window.wire_s - latency - coding)
    per_byte = on_the_line / (bytes_per_value(window.choice, limits) * max(1, window.values))
    waited = max(0.0, window.step_s - slowest - window.wire_s / span)
    jitter = waited * math.sqrt(span)
    found = {}
    for choice, kind in CHOICES.items():
        allowed = kind.keeps_promise or limits.any_choice
        can_be = not window.coding_s or choice in window.coding_s
        if choice != window.choice and not (allowed and can_be):
            continue
        wire = latency + window.coding_s.get(choice, coding)
        wire += per_byte * bytes_per_value(choice, limits) * window.values
        steps = _span(choice, limits)
        found[choice] = slowest + jitter / math.sqrt(steps) + wire / steps
    return found


def bytes_per_value(choice: Choice, limits: Limits) -> float:
    """What one exchange sends of each value of the model."""
    moments = choice.strategy == "local-sgd" and limits.moments_sent
    return CHOICES[choice].bytes_per_value + (MOMENTS_BYTES if moments else 0.0)


def _span(choice: Choice, limits: Limits) -> int:
    return limits.inner_steps if choice.strategy == "local-sgd" else 1


def _learn(memory: Memory, window: Window, predicted: Mapping[Choice, float]) -> Memory:
    """Forget a little; the first window after a switch tells how much of the hope came true, and
    what the choice before it is predicted to cost now that it is known."""
    learned = {choice: 1.0 + (ratio - 1.0) * REMEMBERED for choice, ratio in memory.learned.items()}
    if memory.hoped_s is not None and window.choice != memory.previous:
        learned[window.choice] = _ratio(window.step_s, memory.hoped_s)
        before = memory.previous
        if before is not None and before in predicted:
            learned[before] = _ratio(memory.had_s, predicted[before])
        memory = replace(memory, hoped_s=None)
    return replace(memory, learned=learned)


def _ratio(measured_s: float, predicted_s: float) -> float:
    return min(10.0, max(0.1, measured_s / max(predicted_s, 1e-9)))


def _why(window: Window, best: Choice, seconds: float, limits: Limits) -> str:
    """The measured cause, and what is expected of the switch, in one sentence."""
    span = _span(window.choice, limits)
    step = window.step_s
    wire = window.wire_s / span
    slowest = max(window.compute_s)
    waited = max(0.0, step - slowest - wire)
    if wire >= waited:
        sent = bytes_per_value(window.choice, limits) * window.values
        rate = 8e-6 * sent / window.wire_s
        cause = f"the exchange takes {wire / step:.0%} of a step at {rate:.3g} Mbit/s"
    else:
        cause = f"{waited / step:.0%} of a step is waiting for whoever is slow just then"
    if CHOICES[best].handicap < CHOICES[window.choice].handicap:
        cause = f"the exchange takes only {wire / step:.0%} of a step"
    return f"{cause}: {best} should make {step / seconds:.2g} times the steps per second"
