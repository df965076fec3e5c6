"""This peer's replicas: carries out the plan of p2p.replicas.agent, keeps what they last said."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any

from p2p.control.crash_records import CrashRecords
from p2p.control.deadlines import Awake, Pulse, heard_later
from p2p.fetching import Fetching
from p2p.processes import Children
from p2p.replicas.agent import (
    Crowded,
    Doubt,
    Fetch,
    GiveUp,
    Kill,
    Local,
    LocalReplica,
    Start,
    Unwanted,
    plan,
)
from p2p.replicas.files import ModelFiles
from p2p.replicas.relay import Relay
from p2p.replicated.state import State
from p2p.reports import ReplicaReport
from p2p.routing.letters import ToFront, ToHost
from p2p.serving import messages, protocol
from p2p.serving.messages import Done, Failed, Ready, Tokens
from p2p.trainer_desk import Workplace

FREE_EVERY_S = 0.5
DOUBTED_EVERY_S = 1.0  # the fronts hear of it again


class ReplicaDesk:
    """`changed` is called when the leader should hear of it at once, `say(front, letter)` reaches
    the front of a prompt, `free_bytes` is the memory that a replica may take, `gather` puts files
    under their names into a folder.
    """

    def __init__(
        self,
        workplace: Workplace,
        children: Children,
        fetching: Fetching,
        new_id: Callable[[], str],
        changed: Callable[[], None],
        say: Callable[[Hashable, ToFront], None],
        free_bytes: Callable[[], int | None],
        gather: Callable[[str, Mapping[str, str]], None] = lambda folder, files: None,
    ) -> None:
        self._workplace = workplace
        self._children = children
        self._new_id = new_id
        self._changed = changed
        self._free_bytes = free_bytes
        self._relay = Relay(children, say)
        self._local: dict[str, LocalReplica] = {}  # by child
        self._told: dict[str, ReplicaReport] = {}
        self._files = ModelFiles(fetching, workplace.source_dir, gather)
        self._crashes = CrashRecords()
        self._streams: dict[str, int] = {}  # by child, that it answers at a time
        self._awake = Awake()
        self._crowded: dict[str, ReplicaReport] = {}  # by service, one that waits for room
        # Memory: as of when, what was here then, and how much.
        self._free: tuple[float, tuple[str, ...], int | None] = (float("-inf"), (), None)
        self._doubted_s: dict[str, float] = {}  # by child that seems to hang, when that was said

    @property
    def reports(self) -> tuple[ReplicaReport, ...]:
        told = [self._with_load(each) for each in self._told.values()]
        there = {each.service for each in told}
        told += self._crowded.values()
        for service in self._crashes.by_job.keys() - there:
            crashed = self._crashes.told(service)
            told.append(ReplicaReport(crashed["child"], service, 0, "crashed", crashed=crashed))
        return tuple(told)

    @property
    def is_answering(self) -> bool:
        return not self._relay.is_idle

    def has(self, child: str) -> bool:
        return child in self._local

    def act(self, state: State, now_s: float, leaving: bool) -> None:
        self._forget(state)
        self._allow_for_sleep(now_s)
        if not self._local and not any(
            self._workplace.self_id in service.assigned for service in state.services.values()
        ):
            self._crowded = {}
            return
        held = {
            (told.service, told.revision)
            for told in self._local.values()
            if told.unwanted_s is None
        }
        may_start = bool(self._files.found.keys() - held)
        local = Local(
            self_id=self._workplace.self_id,
            now_s=now_s,
            leaving=leaving,
            warm=self._children.warm,
            replicas={
                child: replace(told, prompts=self._relay.prompts(child))
                for child, told in self._local.items()
            },
            crashes=self._crashes.by_job,
            files=self._files.found,
            gpus=self._workplace.gpus,
            unstartable=self._children.problem,
            free_bytes=self._free_now(now_s) if may_start else None,
        )
        actions = plan(state, local)
        doubted = {action.child for action in actions if isinstance(action, Doubt)}
        self._doubted_s = {c: at_s for c, at_s in self._doubted_s.items() if c in doubted}
        self._note_crowded([action for action in actions if isinstance(action, Crowded)])
        for action in actions:
            match action:
                case Fetch():
                    if self._files.fetch(state, action.service):
                        self._changed()
                case Start():
                    self._start(action, now_s)
                case Unwanted():
                    self._let_go(action.child, now_s)
                case Doubt():
                    self._doubt(action.child, now_s)
                case Kill():
                    self._kill(action)
                case GiveUp():
                    self._give_up(action)

    def on_letter(self, front: Hashable, letter: ToHost, now_s: float) -> None:
        child = getattr(letter, "child", "")
        told = self._told.get(child)
        answers = told is not None and told.phase == "ready" and child not in self._doubted_s
        self._relay.on_letter(front, letter, answers, now_s)

    def on_tick(self, now_s: float) -> None:
        self._relay.on_tick(now_s)

    def on_message(self, child: str, message: Mapping[str, Any], now_s: float) -> None:
        """Raises protocol.Malformed."""
        news = protocol.news(message)
        local, told = self._local[child], self._told[child]
        match news:
            case messages.Pulse():
                beat = Pulse(news.doing, None, news.for_s, news.usual_s, now_s)
                self._local[child] = replace(local, pulse=beat)
            case Tokens():
                self._relay.on_tokens(child, news)
            case Done():
                self._relay.on_done(child, news)
            case Ready() if local.unwanted_s is None:
                self._streams[child] = news.streams
                names = ("name", "parameters", "bytes", "context", "digest")
                model = {name: getattr(news, name) for name in names}
                self._local[child] = replace(local, phase="ready")
                self._crashes.trains(child, now_s)
                self._told[child] = replace(told, phase="ready", model=model)
                self._changed()
            case Failed() if local.phase == "ready":
                self._crashes.condemn(child, news.error)  # a crash that says how
            case Failed():
                self._local[child] = replace(local, phase="failed")
                self._told[child] = replace(told, phase="failed", error=news.error)
                self._changed()

    def on_exit(self, child: str, how: str, now_s: float) -> None:
        """`how` is empty when `on_status` will say it."""
        local = self._local[child]
        self._streams.pop(child, None)
        self._relay.on_exit(child, died=local.unwanted_s is None)
        if local.phase == "failed" and local.unwanted_s is None:
            return  # kept, so that the leader hears of it
        wanted = local.unwanted_s is not None
        self._crashes.ended(local.service, child, how, now_s, wanted)
        del self._local[child], self._told[child]
        self._changed()

    def on_status(self, child: str, how: str) -> bool:
        """How a process ended, often a little after its end was noticed. Whether it was ours."""
        if child in self._local:
            self._crashes.condemn(child, how)
            return True
        return self._crashes.explain(child, how) is not None

    # -- inside ----------------------------------------------------------------------------------

    def _with_load(self, told: ReplicaReport) -> ReplicaReport:
        """What it said last of its load is of before its last end or cancellation."""
        prompts = self._relay.prompts(told.child)
        running = min(prompts, self._streams.get(told.child, prompts))
        crashed = self._crashes.told(told.service)
        return replace(told, running=running, waiting=prompts - running, crashed=crashed)

    def _allow_for_sleep(self, now_s: float) -> None:
        slept_s = self._awake.slept_s(now_s)
        for child, local in self._local.items() if slept_s else ():
            if local.pulse is not None:
                self._local[child] = replace(local, pulse=heard_later(local.pulse, slept_s))

    def _free_now(self, now_s: float) -> int | None:
        """A look at the whole host, not in every plan while something waits for room."""
        phases = tuple(told.phase for told in self._told.values())
        if now_s - self._free[0] >= FREE_EVERY_S or phases != self._free[1]:
            self._free = (now_s, phases, self._free_bytes())
        return self._free[2]

    def _note_crowded(self, found: list[Crowded]) -> None:
        """The sentence stays while it lasts: how much is free changes all the time."""
        told = {}
        for action in found:
            name = f"{self._workplace.self_id}-{action.service}-{action.revision}"
            made = ReplicaReport(name, action.service, action.revision, "crowded", error=action.why)
            known = self._crowded.get(action.service)
            told[action.service] = known if known and known.child == name else made
        if told != self._crowded:
            self._crowded = told
            self._changed()

    def _doubt(self, child: str, now_s: float) -> None:
        if now_s - self._doubted_s.get(child, -DOUBTED_EVERY_S) >= DOUBTED_EVERY_S:
            self._doubted_s[child] = now_s
            self._relay.on_stuck(child)

    def _kill(self, kill: Kill) -> None:
        if kill.hung and self._crashes.condemn(kill.child, kill.hung):
            self._told[kill.child] = replace(self._told[kill.child], phase="stopping")
            self._changed()
        self._children.kill(kill.child)

    def _start(self, start: Start, now_s: float) -> None:
        service, child = start.service, self._new_id()
        number = service.revision.number
        try:
            load = self._files.load(service, start.paths, start.gpu)
        except OSError as error:
            why = f"cannot write the model's folder: {error.strerror}"
            self._give_up(GiveUp(service.id, number, why))
            return
        unborn = Pulse("loading", None, 0.0, None, now_s)
        self._local[child] = LocalReplica(
            child, service.id, number, "starting", gpu=start.gpu, pulse=unborn
        )
        self._told[child] = ReplicaReport(child, service.id, number, "starting")
        self._children.start(child, load.to_wire())

    def _let_go(self, child: str, now_s: float) -> None:
        local = self._local[child]
        if local.phase == "failed":  # its process has ended
            del self._local[child], self._told[child]
            self._children.kill(child)
            return
        self._local[child] = replace(local, unwanted_s=now_s)
        self._told[child] = replace(self._told[child], phase="stopping")
        self._changed()

    def _give_up(self, give_up: GiveUp) -> None:
        """There is no process; the report stays until the leader has set this peer aside."""
        child, service, number = self._new_id(), give_up.service, give_up.revision
        self._local[child] = LocalReplica(child, service, number, "failed")
        self._told[child] = ReplicaReport(child, service, number, "failed", error=give_up.error)
        self._crashes.forget(service)
        self._changed()

    def _forget(self, state: State) -> None:
        """What is not assigned here any more begins anew another time."""
        me = self._workplace.self_id
        here = {
            service.id: service.revision
            for service in state.services.values()
            if me in service.assigned
        }
        self._files.keep(here)
        for service in [name for name in self._crashes.by_job if name not in here]:
            self._crashes.forget(service)
