"""Rules about jobs: slow, stuck, diverging, unsaved, unequal. Pure."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from p2p.control.rebalancing import Pace
from p2p.replicated.state import Job, Mark
from p2p.watch.facts import Facts, stretches
from p2p.watch.rule import Finding, Rule

WINDOW_MARKS = 10  # what a median is taken of, at about two marks a second
RISEN_SHARE = 0.05  # of where it began: less is the noise of a loss that is nearly zero
CRASHES_WITHIN_S = 300.0
PAUSE_S = 60.0  # no more of it counts as training between two marks
PARITY_WITHIN_S = 600.0
# In the sentences of p2p.control.marks, which alone says so.
_UNEQUAL = ("other weights", "different weights")


def paces(facts: Facts, job: Job) -> dict[str, Pace]:
    """By peer the newest measurement of its trainer, in the newest generation."""
    found = {}
    number = job.generation.number if job.generation else None
    for peer in job.members:
        vitals = facts.vitals.get(peer)
        told = vitals.trainers.get(job.id, {}) if vitals and not vitals.suspect else {}
        if told.get("generation") == number and told.get("pace"):
            found[peer] = Pace(*told["pace"][-1])
    return found


def _straggler(facts: Facts, limit: float) -> Iterator[Finding]:
    for job in facts.running:
        told = paces(facts, job)
        if len(told) < 2:
            continue
        for peer, pace in told.items():
            usual_s = median(other.shard_s for name, other in told.items() if name != peer)
            times = pace.shard_s / usual_s if usual_s > 0 else 1.0
            if times >= limit:
                text = (
                    f"{facts.name(peer)} is {times:.1f} times slower than the median of the others "
                    f"in {job.name}: {pace.shard_s:.3f} s per shard, they take {usual_s:.3f} s"
                )
                yield Finding(text, f"job.{job.id}.compute_s", times, peer=peer, job=job.id)


def _not_finite(facts: Facts, limit: float) -> Iterator[Finding]:
    skipped: dict[str, float] = {}
    for figure in facts.figures("job.*.skipped_steps"):
        id_ = figure.metric.split(".")[1]
        skipped[id_] = max(figure.value, skipped.get(id_, 0.0))
    for job in facts.running:
        count = skipped.get(job.id, 0.0)
        if job.mark and job.mark.loss is not None and not math.isfinite(job.mark.loss):
            count = max(count, 1.0)
        if count >= limit:
            text = (
                f"{job.name}: loss or gradient is NaN or Inf, {count:.0f} steps in a row were "
                "skipped; lower the learning rate, or look at the data"
            )
            yield Finding(text, f"job.{job.id}.skipped_steps", count, job=job.id)


def _rising(facts: Facts, limit: float) -> Iterator[Finding]:
    for job in facts.running:
        losses = [m.loss for m in job.marks if m.loss is not None and math.isfinite(m.loss)]
        windows = [
            median(losses[at : at + WINDOW_MARKS])
            for at in range(len(losses) % WINDOW_MARKS, len(losses), WINDOW_MARKS)
        ]
        if len(windows) < 3:
            continue
        first, best, now = windows[0], min(windows), windows[-1]
        if now > best + RISEN_SHARE * abs(first) and now >= best + (limit - 1.0) * abs(best):
            text = (
                f"{job.name}: the loss rises, {now:.4g} now against {best:.4g} at its best; "
                "a checkpoint from before can be restored"
            )
            yield Finding(text, f"job.{job.id}.loss", now, job=job.id)


def _throughput(facts: Facts, limit: float) -> Iterator[Finding]:
    for job in facts.running:
        usual, now = speeds(job)
        if usual > 0 and now < limit * usual:
            text = (
                f"{job.name} makes {now:.0f} samples/s, {1 - now / usual:.0%} less than it "
                f"usually does with as many trainers ({usual:.0f})"
            )
            yield Finding(text, f"job.{job.id}.samples_per_s", now, job=job.id)


def speeds(job: Job) -> tuple[float, float]:
    """Samples per second, usually and now, with as many trainers and the method of now; zeros while
    there is too little to say so."""
    made = stretches(job)
    if not made or job.generation is None or made[-1].generation is not job.generation:
        return 0.0, 0.0
    alike = [
        mark
        for stretch in made
        if len(stretch.generation.seats) == len(job.members)
        and stretch.generation.method == job.generation.method
        for mark in stretch.marks[1:]  # the first is of a generation that has just begun
    ]
    now = _rates(made[-1].marks[1:])[-WINDOW_MARKS:]
    if len(alike) < 3 * WINDOW_MARKS or len(now) < WINDOW_MARKS:
        return 0.0, 0.0
    return median(_rates(alike)), median(now)


def _rates(marks: Sequence[Mark]) -> list[float]:
    return [float(mark.samples_per_second) for mark in marks]


def _unsaved(facts: Facts, limit: float) -> Iterator[Finding]:
    """By when the marks were made: the log does not say when a checkpoint was. A pause counts
    little."""
    for job in facts.running:
        saved = job.checkpoint.step if job.checkpoint else 0
        at_s = [*(mark.at_s for mark in job.marks if mark.step >= saved), facts.unix_s]
        age_s = sum(min(later - at, PAUSE_S) for at, later in pairwise(at_s))
        if age_s > limit:
            kept = f"the newest is of step {saved}" if saved else "there is none yet"
            text = f"{job.name}: no checkpoint for {age_s / 60:.0f} minutes, {kept}"
            yield Finding(text, f"job.{job.id}.checkpoint_age_s", age_s, job=job.id)


def _waits(facts: Facts, limit: float) -> Iterator[Finding]:
    for job in facts.state.jobs.values():
        if job.state == "recovering":
            text = f"{job.name} does not train: {job.reason or 'its trainers find together'}"
            yield Finding(text, f"job.{job.id}.step", 0.0, job=job.id)


def _crashing(facts: Facts, limit: float) -> Iterator[Finding]:
    counts = Counter(
        (event.peer, event.job)
        for event in facts.events(CRASHES_WITHIN_S)
        if event.kind == "trainer-crashed" and event.job in facts.state.jobs
    )
    for (peer, job), count in counts.items():
        if count >= limit:
            text = f"the trainer of {facts.name(peer)} keeps dying: {count} times in 5 minutes"
            yield Finding(text, f"job.{job}.crashes", float(count), peer=peer, job=job)


def _parity(facts: Facts, limit: float) -> Iterator[Finding]:
    """Bits that differ: who has them was set aside, or the job failed. Told for ten minutes."""
    for event in facts.events(PARITY_WITHIN_S):
        blames = event.kind in ("job-excludes", "job-failed")
        if blames and any(said in event.text for said in _UNEQUAL):
            text = f"parity is broken: {event.text}"
            yield Finding(text, f"job.{event.job}.state_hash", 1.0, event.peer, event.job)


def _saved_in_vain(facts: Facts, limit: float) -> Iterator[Finding]:
    for job in facts.running:
        saved = job.checkpoint.step if job.checkpoint else -1
        if job.failed_checkpoint is not None and job.failed_checkpoint > saved:
            text = f"{job.name}: the checkpoint of step {job.failed_checkpoint} was not written"
            yield Finding(text, f"job.{job.id}.failed_checkpoint", 1.0, job=job.id)


RULES = (
    Rule(
        "straggler",
        "warning",
        "training",
        "a trainer takes so many times as long for a shard as the others",
        _straggler,
        threshold=1.5,
        clear=1.3,
        for_s=6.0,
        clear_s=6.0,
        command="p2pnode remove PEER",
    ),
    Rule(
        "loss-not-finite",
        "critical",
        "training",
        "steps are skipped because loss or gradient is NaN or Inf",
        _not_finite,
        clear_s=10.0,
        command="p2pnode restore JOB",
    ),
    Rule(
        "loss-rising",
        "warning",
        "training",
        "the loss is so many times its best",
        _rising,
        threshold=1.5,
        clear=1.2,
        for_s=5.0,
        clear_s=10.0,
        command="p2pnode restore JOB",
    ),
    Rule(
        "throughput-down",
        "warning",
        "training",
        "a job is slower than it was with as many trainers, as a share",
        _throughput,
        threshold=0.7,
        clear=0.85,
        for_s=10.0,
        clear_s=10.0,
        command="p2pnode peers",
    ),
    Rule(
        "checkpoint-old",
        "warning",
        "training",
        "nothing was saved for long, in seconds",
        _unsaved,
        threshold=900.0,
        clear=900.0,
        for_s=5.0,
        command="p2pnode checkpoint JOB",
    ),
    Rule(
        "checkpoint-failed",
        "warning",
        "training",
        "the last checkpoint could not be written",
        _saved_in_vain,
        command="p2pnode events --text checkpoint",
    ),
    Rule(
        "job-stuck",
        "warning",
        "training",
        "a job that should train does not",
        _waits,
        for_s=10.0,
        command="p2pnode job JOB",
    ),
    Rule(
        "trainer-crashing",
        "warning",
        "training",
        "a trainer died several times within five minutes",
        _crashing,
        threshold=3.0,
        clear=2.0,
        command="p2pnode events --job JOB --level warning",
    ),
    Rule(
        "parity-broken",
        "critical",
        "training",
        "trainers had different weights after the same step",
        _parity,
        command="p2pnode events --job JOB --level error",
    ),
)
