"""This peer's trainers: carries out the agent's plan, and keeps what they last said.

No decisions here: p2p.agent decides. What a trainer says is kept as its newest state, which is what
the report to the leader is made of.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from p2p.agent import GiveUp, Kill, Local, LocalTrainer, Prepare, Remove, Start, Stop, Tell, plan
from p2p.checkpoints.shelf import MemoryShelf, Shelf
from p2p.control.crash_records import CrashRecords
from p2p.control.deadlines import Awake, heard_later, pulse
from p2p.data_desk import DataDesk
from p2p.job_spec import for_trainers
from p2p.processes import Children
from p2p.replicated.state import Job, State
from p2p.reports import KEPT_MESSAGES, TrainerReport, check_trainer_message
from p2p.wire.keys import ClusterKey

LEASE_S = 1.5
# What of a trainer's messages the leader must hear of at once.
URGENT = frozenset({*KEPT_MESSAGES, "checkpoint"} - {"progress"})
# A trainer that was told to stop and is still there after this long is killed.
STOP_WITHIN_S = 5.0
CHECKPOINTS_TOLD = 20  # the newest; the log has the others


@dataclass(frozen=True, slots=True)
class Workplace:
    """What every trainer of this peer is told at its start."""

    self_id: str
    bind_host: str
    ipc_dir: str
    keys: Mapping[str, bytes]
    checkpoint_dir: str
    source_dir: str
    advertise_host: str | None = None  # where others reach this host; None = where it binds
    gpus: tuple[str, ...] = ()  # that its trainers may be given, by uuid

    def begin(self, start: Start) -> dict[str, Any]:
        job = start.job
        return {
            "kind": "begin",
            "job": {**trainer_spec(job), **({"data": start.data} if start.data else {})},
            "peer": self.self_id,
            "bind_host": self.bind_host,
            "advertise_host": self.advertise_host,
            "ipc_dir": self.ipc_dir,
            "keys": dict(self.keys),
            "checkpoint_dir": f"{self.checkpoint_dir}/{job.id}",
            "source_dir": self.source_dir,
            "gpu": start.gpu,
        }


class TrainerDesk:
    """`changed` is called when the leader should hear of it at once, `heard(job, message)` with
    every message of a trainer that was found sound."""

    def __init__(
        self,
        workplace: Workplace,
        children: Children,
        new_id: Callable[[], str],
        changed: Callable[[], None],
        shelf: Shelf | None = None,
        data: DataDesk | None = None,
        heard: Callable[[str, Mapping[str, Any]], None] = lambda job, message: None,
    ) -> None:
        self.shelf = MemoryShelf() if shelf is None else shelf
        self.reports: dict[str, TrainerReport] = {}  # by job
        self._workplace = workplace
        self._children = children
        self._new_id = new_id
        self._changed = changed
        self._data = data
        self._heard = heard
        self._local: dict[str, LocalTrainer] = {}  # by job
        self._crashes = CrashRecords()
        self._stopping: dict[str, float] = {}  # by child, since when
        self._awake = Awake()
        self._leased_s = 0.0

    def act(self, state: State, now_s: float, leaving: bool) -> None:
        self._allow_for_sleep(now_s)
        if self._data:
            self._data.follow(state)
        self._forget(state)
        local = Local(
            self_id=self._workplace.self_id,
            now_s=now_s,
            leaving=leaving,
            warm=self._children.warm,
            trainers=self._local,
            crashes=self._crashes.by_job,
            files=self.shelf.files,
            gpus=self._workplace.gpus,
            unstartable=self._children.problem,
            data=self._data.verdicts if self._data else {},
        )
        for child, since_s in self._stopping.items():
            if now_s - since_s >= STOP_WITHIN_S:
                self._children.kill(child)
        for action in plan(state, local):
            match action:
                case Prepare() if self._data:
                    self._data.prepare(state, action.job)
                case Start():
                    self._start(action)
                case Stop():
                    self._stop(action, now_s)
                case Kill():
                    self._kill(action)
                case GiveUp():
                    self._give_up(action)
                case Tell():
                    self._tell(action)
                case Remove():
                    self.shelf.remove(action.path)

    def lease(self, from_s: float, now_s: float) -> None:
        """Let the trainers step on; called while the peer is in touch with a quorum's leader."""
        if now_s - self._leased_s < 0.1:
            return
        self._leased_s = now_s
        for trainer in self._local.values():
            self._children.send(trainer.child, {"kind": "lease", "until": from_s + LEASE_S})

    def crash(self) -> int:
        """Kill all trainers, as a drill; returns how many."""
        for trainer in self._local.values():
            self._crashes.drill(trainer.child)
            self._children.kill(trainer.child)
        return len(self._local)

    def on_message(self, child: str, message: Mapping[str, Any], now_s: float) -> None:
        """Raises Malformed for a message that lacks what its kind must have."""
        job = self._job_of(child)
        report = self.reports.get(job) if job else None
        kind = str(message.get("kind"))
        if job is None or report is None:
            return
        check_trainer_message(kind, message)
        self._heard(job, message)
        if kind == "pulse":
            self._local[job] = replace(self._local[job], pulse=pulse(message, now_s))
            return
        if kind == "checkpoint":
            for part in message["parts"]:
                self.shelf.add(part["path"], job, message["step"])
            told = (*report.checkpoints, message)[-CHECKPOINTS_TOLD:]
            report = replace(report, checkpoints=told)
        elif kind in KEPT_MESSAGES:
            kept: dict[str, Any] = {kind: message}
            report = replace(report, **kept)
        if kind == "failed" or (kind == "ready" and child not in self._stopping):
            report = replace(report, phase=kind)
            self._local[job] = replace(self._local[job], phase=kind)
        if kind == "entered":
            self._crashes.trains(child, now_s)
        self.reports[job] = report
        if kind in URGENT:
            self._changed()

    def tell_copy(self, job: str, message: Mapping[str, Any]) -> None:
        """With the report of its trainer: a part of a checkpoint came here from another peer."""
        report = self.reports.get(job)
        if report is not None and message not in report.checkpoints:
            told = (*report.checkpoints, message)[-CHECKPOINTS_TOLD:]
            self.reports[job] = replace(report, checkpoints=told)
            self._changed()

    def tell_unfetchable(self, job: str, told: Mapping[str, Any]) -> None:
        """No copy of a part of a checkpoint that the job needs is as it was written."""
        report = self.reports.get(job)
        if report is not None and report.unfetchable != told:
            self.reports[job] = replace(report, unfetchable=told)
            self._changed()

    def forget_copy(self, job: str, message: Mapping[str, Any]) -> None:
        """What was told was not what it should be."""
        report = self.reports.get(job)
        if report is not None:
            told = tuple(each for each in report.checkpoints if each != message)
            self.reports[job] = replace(report, checkpoints=told)

    def on_exit(self, child: str, how: str, now_s: float) -> None:
        """`how` is empty when `on_status` will say it."""
        job = self._job_of(child)
        if job is None:
            return
        self.shelf.look(job)
        wanted = self._stopping.pop(child, None) is not None
        if not wanted and self.reports[job].phase == "failed":
            return  # kept, so that the leader hears of it
        self._crashes.ended(job, child, how, now_s, wanted)
        del self.reports[job], self._local[job]
        self._tell_crash(job)
        self._changed()

    def on_status(self, child: str, how: str) -> None:
        """How the process of a trainer ended; often a little after its end was noticed."""
        if self._job_of(child) is not None:
            self._crashes.condemn(child, how)  # its end is noticed in a moment
            return
        job = self._crashes.explain(child, how)
        if job is not None:
            self._tell_crash(job)
            self._changed()

    def _tell_crash(self, job: str) -> None:
        """With the report of that trainer or its successor."""
        told = self._crashes.told(job)
        if told:
            report = self.reports.get(job, TrainerReport("", job, "crashed"))
            self.reports[job] = replace(report, crashed=told)

    def _allow_for_sleep(self, now_s: float) -> None:
        slept_s = self._awake.slept_s(now_s)
        for job, trainer in self._local.items() if slept_s else ():
            if trainer.pulse is not None:
                self._local[job] = replace(trainer, pulse=heard_later(trainer.pulse, slept_s))

    def _forget(self, state: State) -> None:
        """Crashes of a job that runs here no more: another time it begins anew."""
        for job in {*self._crashes.by_job, *self.reports} - self._local.keys():
            held = state.jobs.get(job)
            if held is None or held.is_final or self._workplace.self_id not in held.assigned:
                self._crashes.forget(job)
                self.reports.pop(job, None)

    def _kill(self, kill: Kill) -> None:
        job = self._job_of(kill.child)
        if job is None or not self._crashes.condemn(kill.child, kill.reason):
            return
        # The others need not wait for the end of its process.
        self._local[job] = replace(self._local[job], phase="stopping")
        self.reports[job] = replace(self.reports[job], phase="stopping")
        self._children.kill(kill.child)
        self._changed()

    def _give_up(self, give_up: GiveUp) -> None:
        """There is no process; the report stays until the leader has set this peer aside."""
        child, job = self._new_id(), give_up.job
        failed = {"error": give_up.error}
        self._local[job] = LocalTrainer(child, job, "failed")
        self.reports[job] = TrainerReport(child, job, "failed", failed=failed)
        self._crashes.forget(job)
        self._changed()

    def _start(self, start: Start) -> None:
        child = self._new_id()
        job = start.job.id
        self._local[job] = LocalTrainer(child, job, "starting", gpu=start.gpu)
        self.reports[job] = TrainerReport(child, job, "starting")
        self._tell_crash(job)
        self._children.start(child, self._workplace.begin(start))
        self._leased_s = 0.0

    def _stop(self, stop: Stop, now_s: float) -> None:
        job = self._job_of(stop.child)
        if job is not None and self._local[job].phase == "failed":
            del self.reports[job], self._local[job]
            self._stopping.pop(stop.child, None)
        elif job is not None and stop.child not in self._stopping:
            self._stopping[stop.child] = now_s
            # It must not be given a seat any more.
            self._local[job] = replace(self._local[job], phase="stopping")
            self.reports[job] = replace(self.reports[job], phase="stopping")
            self._children.send(stop.child, {"kind": "stop"})

    def _tell(self, tell: Tell) -> None:
        job = self._job_of(tell.child)
        if job is None:
            return
        match tell.message["kind"]:
            case "hold":
                changed = replace(self._local[job], held=True)
            case "follow":
                number = int(tell.message["number"])
                changed = replace(self._local[job], told_follow=number)
            case "checkpoint":
                changed = replace(self._local[job], told_asks=int(tell.message["number"]))
            case _:
                number = int(tell.message["number"])
                changed = replace(self._local[job], held=False, told_generation=number)
        self._local[job] = changed
        self._children.send(tell.child, tell.message)

    def _job_of(self, child: str) -> str | None:
        for trainer in self._local.values():
            if trainer.child == child:
                return trainer.job
        return None


def trainer_spec(job: Job) -> dict[str, Any]:
    return {**for_trainers(job.spec), "id": job.id, "name": job.name}


def keys_for_trainers(key: ClusterKey) -> dict[str, bytes]:
    """The CURVE keys as a trainer's first message carries them."""
    pairs = {"server": asdict(key.server), "client": asdict(key.client)}
    return {f"{side}_{half}": pair[half] for side, pair in pairs.items() for half in pair}
