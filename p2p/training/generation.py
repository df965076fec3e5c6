"""One generation of a job as one trainer lives it: catch up, step, mark, finish.

Ends by returning when the job is done or all leave after a round, or with Aborted when a newer
order came; then nothing is half applied, and the next generation starts from the last applied step.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from collectives.errors import Aborted
from collectives.operations import Group
from p2p.training.catchup import CaughtUp, catch_up
from p2p.training.checkpoint import CheckpointFailed
from p2p.training.checkpoints import Checkpoints
from p2p.training.control import Control, Order
from p2p.training.giver import Giver
from p2p.training.going_back import Unusable
from p2p.training.layout import Wish
from p2p.training.pace import PaceMeter
from p2p.training.parity import level_or_name
from p2p.training.run import Run
from p2p.training.stream import Message

PROGRESS_EVERY_S = 0.2
FLOAT32_BYTES = 4
MARKS_SHARE = 0.01  # of the time may go into marks, if they are not more than
MARKS_RARER = 20  # times as far apart as ordered
LEDGER_LINES_TOLD = 1_000  # the log has the older ones from earlier marks


def marks_apart_s(ordered_s: float, took_s: float) -> float:
    """How long after a mark the next one is due, when that one took so long.

    Hashing a state of 120 MB takes 90 ms: every half second, that is a sixth of the training.
    """
    return min(max(ordered_s, took_s / MARKS_SHARE), ordered_s * MARKS_RARER)


@dataclass
class Clock:
    """When this trainer last applied a step, in monotonic seconds; None before its first."""

    applied_at: float | None = None
    highest: int = 0


@dataclass
class Traffic:
    """What this trainer had to give to others in the rounds of one generation."""

    given_bytes: float = 0.0
    steps: int = 0

    def add(self, given_bytes: float, steps: int) -> None:
        self.given_bytes += given_bytes
        self.steps += steps

    def told(self, values: int, trainers: int) -> dict[str, float | None]:
        """Bytes per step, and how many times less that is than a float32 all-reduce of `values`
        every step; None where nothing has to be sent."""
        per_step = self.given_bytes / max(1, self.steps)
        plain = 2 * FLOAT32_BYTES * values * (trainers - 1) / trainers
        return {"bytes_per_step": per_step, "compression": plain / per_step if per_step else None}


class Generation:
    """Made for one order; `live` does it."""

    def __init__(
        self,
        order: Order,
        group: Group,
        run: Run,
        control: Control,
        checkpoints: Checkpoints,
        giver: Giver,
        clock: Clock,
    ) -> None:
        self.order, self.group, self.run = order, group, run
        self.control, self.checkpoints, self.giver = control, checkpoints, giver
        self.clock = clock
        self.mine = order.shards[group.rank]
        self._marked_at, self._mark_took_s = time.monotonic(), 0.0
        self._progress_at = time.monotonic()
        self._progress_samples = run.position.ledger.samples
        self._pace = PaceMeter()
        self._entered: Message | None = None
        self._differs: str | None = None
        self._traffic = Traffic()

    def live(self) -> None:
        """Returns when the job is done and said so, or all leave for a newer generation. Raises
        Aborted, TaskFailed, P2PError."""
        begin = self.control.activity.begin
        self._begin_measuring()
        self.giver.generation = self.order.number
        begin("exchange", self.run.position.step)
        self.checkpoints.wait_copied()  # of a follower's copy only what changes the state waits
        caught_up = self._catch_up()
        self._prepare_entered(caught_up)
        run = self.run
        run.remember()
        self._progress_samples = run.position.ledger.samples
        if run.done:
            self._say_entered()
        if run.schedule.ends_epoch(run.position.step) and not caught_up.evaluated:
            self._evaluate()
            self._mark()
        run.strategy.enter(self.group, self.order.shards)
        while not run.done:
            if self._step():
                return
        self._finish()

    def _step(self) -> bool:
        """One round. Whether all leave after it."""
        run, control, number = self.run, self.control, self.order.number
        step = run.position.step
        control.may_step(number)
        began, given = time.monotonic(), self.group.given_bytes
        control.activity.begin("gradients", step)
        run.strategy.compute(step, run.batches(), self.mine, self._check)
        computed = time.monotonic()
        control.activity.begin("exchange", step)
        result = run.strategy.exchange(self.group, step, self._wish())
        run.tuner.round(computed - began, time.monotonic() - computed, result.span)
        lo, hi = self.mine
        ended = time.monotonic()
        self._pace.step(computed - began, (hi - lo) * result.span, ended - began)
        self._measure(computed - began, ended - computed, result.span)
        self._traffic.add(self.group.given_bytes - given, result.span)
        control.may_step(number)  # nothing is completed without a lease either
        marked, saved = result.agreed.mark, result.agreed.checkpoint
        self.checkpoints.wait_copied()
        self.giver.wait_copied()
        control.activity.begin("update", step)
        run.apply(result)
        self.clock.applied_at = time.monotonic()
        self.clock.highest = max(self.clock.highest, run.position.step)
        self._say_entered()
        self._measure_learning(result.agreed.finite)
        if run.schedule.ends_epoch(run.position.step):
            self._evaluate()
            marked = True
        self.giver.applied(result)
        if marked:
            self._mark()
        self._progress()
        if saved and not run.done:
            self.control.checkpoint_begun()
            self.checkpoints.start(number, self.group.rank, self.group.size)
        return result.agreed.leave

    def _begin_measuring(self) -> None:
        schedule, layout = self.run.schedule, self.run.gradients.layout
        lo, hi = self.mine
        self.run.tuner.enter(self.run.method, layout.vector(schedule.seed), hi - lo)
        self.run.task.figures.take()  # of the warm-up, or of another generation's last step

    @property
    def _check(self) -> Callable[[], None]:
        number = self.order.number
        return lambda: self.control.check(number)

    def _catch_up(self) -> CaughtUp:
        try:
            return catch_up(self.group, self.run, self.order.offers)
        except Unusable as error:
            told = {"generation": self.order.number, "step": error.step}
            said = {"error": str(error), "bad": error.bad}
            self.control.send({"kind": "unusable", **told, **said})
            raise Aborted(str(error)) from error  # the leader says how it goes on

    def _wish(self) -> Wish:
        """What rank 0 wants all to do after the round. A state that is spread over trainers is
        whole at marks only, as checkpoints need it."""
        run, step = self.run, self.run.position.step
        if self.group.rank:
            return Wish.NOTHING
        due = self.checkpoints.is_due(step, step + run.strategy.span(step))
        wish = Wish.LEAVE if self.control.goes_on_after(self.order.number) else Wish.NOTHING
        if due or self.control.checkpoint_asked:
            wish |= Wish.CHECKPOINT | (Wish.MARK if run.strategy.spreads else Wish.NOTHING)
        passed_s = time.monotonic() - self._marked_at
        due = passed_s >= marks_apart_s(self.order.mark_every_s, self._mark_took_s)
        return wish | Wish.MARK if due or self.giver.wants_mark else wish

    def _evaluate(self) -> None:
        position = self.run.position
        self.control.activity.begin("evaluation", position.step)
        metrics = self.run.evaluation.run(self.group, position.step, self.mine, self._check)
        position.metrics, position.evaluated = metrics, position.step
        for name, value in metrics.items():
            self.run.task.figures.add(f"metric.{name}", value)

    def _mark(self) -> None:
        began = time.monotonic()
        self.control.activity.begin("exchange", self.run.position.step)
        self.run.settle(self.group)
        self.run.tuner.mark(self.group)
        wish = self.run.tuner.wish
        told = {"wish": {**asdict(wish.choice), "reason": wish.reason}} if wish else {}
        self._differs = None
        self.control.send({"kind": "mark", **self._standing(), **told})
        self._agree()
        if self._differs:
            self.control.send({"kind": "mark", **self._standing(), **told})
        else:
            self.giver.marked()
        self._marked_at = time.monotonic()
        self._mark_took_s = self._marked_at - began

    def _agree(self) -> None:
        """Compare the states of all; the leader waits to hear what differs."""
        self._differs = level_or_name(self.group, self.run)

    def _standing(self) -> Message:
        position = self.run.position
        return {
            "generation": self.order.number,
            "step": position.step,
            "epoch": position.epoch(self.run.schedule),
            "samples": position.ledger.samples,
            "loss": position.loss,
            "metrics": {**_prefixed(position.train_metrics), **position.metrics},
            "state_hash": self.run.hash(),
            "ledger": position.ledger.lines()[-LEDGER_LINES_TOLD:],
            "notices": [asdict(notice) for notice in self.run.notices()],
            **({"differs": self._differs} if self._differs else {}),
        }

    def _progress(self) -> None:
        now = time.monotonic()
        passed = now - self._progress_at
        if passed < PROGRESS_EVERY_S:
            return
        run, position = self.run, self.run.position
        samples = position.ledger.samples
        self.control.send(
            {
                "kind": "progress",
                "generation": self.order.number,
                "step": position.step,
                "epoch": position.epoch(run.schedule),
                "loss": position.loss,
                "samples": samples,
                "pace": self._pace.told,
                "samples_per_second": (samples - self._progress_samples) / passed,
                **self._traffic.told(run.gradients.layout.values, self.group.size),
            }
        )
        self._tell_figures()
        self._progress_at, self._progress_samples = now, samples

    def _measure(self, computed_s: float, exchanged_s: float, span: int) -> None:
        add = self.run.task.figures.add
        add("step_s", (computed_s + exchanged_s) / span)
        add("compute_s", computed_s / span)
        add("barrier_s", exchanged_s)

    def _measure_learning(self, finite: bool) -> None:
        position, add = self.run.position, self.run.task.figures.add
        add("skipped_steps", position.skipped)
        if finite and position.loss is not None:
            add("loss", position.loss)
            for name, value in position.train_metrics.items():
                add(f"metric.train_{name}", value)

    def _tell_figures(self) -> None:
        figures = self.run.task.figures.take()
        told = {"generation": self.order.number, "figures": figures}
        self.control.send({"kind": "figures", **told})

    def _finish(self) -> None:
        self._tell_figures()
        self.control.activity.begin("write", self.run.position.step)
        self.run.settle(self.group)  # who died in the last mark may have kept others from it
        self._agree()
        self._write_final()
        self.group.all_gather(b"")  # "finished" means that the final checkpoint is on disk
        self.control.send({"kind": "finished", **self._standing()})

    def _write_final(self) -> None:
        """Raises Aborted when it cannot be written: the state stays here, another order follows."""
        try:
            self.checkpoints.write_final(self.order.number, self.group.rank, self.group.size)
        except CheckpointFailed as error:
            step = self.run.position.step
            told = {"kind": "checkpoint_failed", "step": step, "error": str(error)}
            self.control.send({**told, "final_of": self.order.number})
            raise Aborted(str(error)) from error

    def _prepare_entered(self, caught_up: CaughtUp) -> None:
        step = self.run.position.step
        since = self.clock.applied_at
        if since is not None and self.order.after_hold:
            since = self.order.arrived  # the pause was wanted: it is no stall
        if self.run.done:
            since = None  # nothing was waiting to go on
        self._stalled_since = since
        self._entered = {
            "kind": "entered",
            "generation": self.order.number,
            "start_step": step,
            "stall_s": None,
            "steps_repeated": max(0, self.clock.highest - step),
            "received": caught_up.received,
        }

    def _say_entered(self) -> None:
        """Once, after the first step applied in this generation."""
        if self._entered is None:
            return
        if self._stalled_since is not None:
            self._entered["stall_s"] = time.monotonic() - self._stalled_since
        self.control.send(self._entered)
        self._entered = None


def _prefixed(metrics: dict[str, float]) -> dict[str, float]:
    """What loss() measured of a training batch, beside what evaluate() measured."""
    return {f"train_{name}": value for name, value in metrics.items()}
