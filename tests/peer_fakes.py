"""Ready-made members, jobs and reports, and a cluster of agreed state and fake trainers.

`PlannedCluster` runs the controller and every peer's TrainerDesk on one shared State: commands are
applied at once, so what it shows is the planners' logic alone. The test plays time and chance.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from p2p.control.controller import plan
from p2p.processes import MemoryChildren
from p2p.replicated.apply import apply
from p2p.replicated.state import Job, Member, State
from p2p.reports import Observed, PeerReport, TrainerReport
from p2p.trainer_desk import TrainerDesk, Workplace
from tools.sim.trainers import STEPS, Trainers, standing

CLUSTER = "c0ffee"


def described(
    peer: str, *, slots: int = 1, incarnation: str = "1", port: int = 0
) -> dict[str, Any]:
    """A member as it describes itself."""
    return {
        "id": peer,
        "name": f"name-{peer}",
        "address": f"127.0.0.1:{port or 7700 + sum(peer.encode()) % 1000}",
        "host": "here",
        "pid": 1,
        "slots": slots,
        "version": "0",
        "incarnation": incarnation,
    }


def member(peer: str, state: Any = "alive", **fields: Any) -> Member:
    return Member(**described(peer, **fields), state=state)


def members(*peers: str) -> dict[str, Member]:
    return {peer: member(peer) for peer in peers}


def spec(**fields: Any) -> dict[str, Any]:
    base = {"task": "digits", "shards": 12, "strategy": "ring", "codec": "int32"}
    return {**base, "peers_min": None, "peers_max": None, **fields}


def applied(state: State, *commands: Mapping[str, Any]) -> State:
    """The state after commands that must all be taken."""
    for command in commands:
        state, answer = apply(state, {"at_s": 1.0, **command})
        assert "error" not in answer, (command, answer)
    return state


def founded(*peers: str, slots: int = 1) -> State:
    first, *others = peers
    found = {"type": "cluster.found", "cluster_id": CLUSTER, "name": "lab"}
    return applied(
        State(),
        {**found, "member": described(first, slots=slots)},
        *({"type": "member.join", "member": described(peer, slots=slots)} for peer in others),
    )


def with_job(state: State, *assigned: str, **fields: Any) -> State:
    """With one more job, started on `assigned` if there are any."""
    state = applied(state, {"type": "job.submit", "name": "run", "spec": spec(**fields)})
    assign = {"type": "job.assign", "job": f"job-{len(state.jobs)}", "reason": "starts"}
    return applied(state, {**assign, "peers": list(assigned)}) if assigned else state


def seat(peer: str, first: int, last: int, child: str | None = None) -> dict[str, Any]:
    return {
        "peer": peer,
        "child": child or f"child-{peer}",
        "endpoints": {"tcp": f"tcp-{peer}"},
        "first_shard": first,
        "last_shard": last,
    }


def generation(number: int, *peers: str, job: str = "job-1", shards: int = 12) -> dict[str, Any]:
    share = shards // len(peers)
    seats = [seat(peer, rank * share, (rank + 1) * share) for rank, peer in enumerate(peers)]
    return {
        "type": "job.generation",
        "job": job,
        "number": number,
        "reason": "because",
        "steps_total": STEPS,
        "seats": seats,
    }


def running(*peers: str, start_step: int = 0, **fields: Any) -> State:
    """A founded cluster whose one job runs on all peers, in generation 1."""
    state = with_job(founded(*peers), *peers, **fields)
    return applied(state, generation(1, *peers), entered(1, start_step))


def dataset(name: str = "digits", **fields: Any) -> dict[str, Any]:
    """The command that registers it."""
    told = {
        "name": name,
        "manifest": "ab" * 32,
        "manifest_bytes": 102,
        "where": "/data/digits",
        "format": "npz",
        "files": 1,
        "bytes": 45_394,
        "samples": 1_797,
        "peer": "a",
        "schema": {"fields": [{"name": "images", "dtype": "uint8", "shape": [8, 8]}]},
    }
    return {"type": "data.register", "dataset": {**told, **fields}}


def served(**fields: Any) -> dict[str, Any]:
    """The command that asks for a replica of some weights on peer a."""
    file = {"name": "00000", "sha256": "ab" * 32, "bytes": 10, "peer": "a", "path": "/data/3"}
    revision = {"step": 3, "state_hash": "sha256:x", "files": [file]}
    told = {"source": "job:job-1", "job": spec(), "follows": "job-1", "revision": revision}
    bounds = {"replicas_min": 1, "replicas_max": 2, "device": "auto"}
    return {"type": "serve.start", "name": "tales", **told, **bounds, **fields}


def replica_ready(peer: str = "a", child: str = "r1", revision: int = 1) -> dict[str, Any]:
    facts = {"peer": peer, "child": child, "revision": revision, "service": "serve-1"}
    model = {"name": "tales", "digest": "sha256:m", "parameters": 5, "bytes": 20, "context": 8}
    return {"type": "serve.ready", **facts, "model": model}


def entered(number: int, start_step: int = 0) -> dict[str, Any]:
    facts = {"start_step": start_step, "stall_s": None, "steps_repeated": 0}
    return {"type": "job.entered", "job": "job-1", "generation": number, **facts}


def mark(number: int, step: int) -> dict[str, Any]:
    told = standing(number, step)
    ledger = told.pop("ledger")
    del told["generation"]
    told["samples_per_second"] = 100.0
    fence = {"type": "job.mark", "job": "job-1", "generation": number}
    return {**fence, "mark": told, "ledger": ledger}


def trainer(
    peer: str, *, child: str | None = None, job: str = "job-1", **said: Any
) -> TrainerReport:
    """A ready trainer's report; `said` replaces fields."""
    ready = {"endpoints": {"tcp": f"tcp-{peer}"}, "steps_total": STEPS}
    fields = {"phase": "ready", "ready": ready, **said}
    return TrainerReport(child=child or f"child-{peer}", job=job, **fields)


def report(peer: str, *trainers: TrainerReport, leaving: bool = False, **fields: Any) -> PeerReport:
    by_job = {told.job: told for told in trainers}
    return PeerReport(described(peer, **fields), 1, 0.0, leaving, by_job)


def observed(*reports: PeerReport, now_s: float = 100.0, **fields: Any) -> Observed:
    by_peer = {told.member["id"]: told for told in reports}
    heard = dict.fromkeys(by_peer, now_s)
    return Observed(**{"now_s": now_s, "reports": by_peer, "heard_s": heard, **fields})


@dataclass
class FakePeer:
    """One live peer process of a PlannedCluster."""

    described: dict[str, Any]
    trainers: MemoryChildren = field(default_factory=MemoryChildren)
    leaving: bool = False

    def __post_init__(self) -> None:
        peer = self.described["id"]
        self._count = 0
        workplace = Workplace(peer, "127.0.0.1", "/ipc", {}, "/checkpoints", "/sources")
        self.desk = TrainerDesk(workplace, self.trainers, self._new_id, lambda: None)
        self.players = Trainers(self.trainers)

    def _new_id(self) -> str:
        self._count += 1
        return f"{self.described['id']}.{self.described['incarnation']}.{self._count}"

    def report(self) -> PeerReport:
        return PeerReport(self.described, 1, 0.0, self.leaving, dict(self.desk.reports))


class PlannedCluster:
    def __init__(self, state: State) -> None:
        self.state = state
        self.now_s = 100.0
        self.stuck: set[str] = set()  # children that say nothing
        self.may_finish = False
        self.peers = {
            told.id: FakePeer({k: v for k, v in asdict(told).items() if k != "state"})
            for told in state.members.values()
        }
        self.commands: list[Mapping[str, Any]] = []

    def job(self, job: str = "job-1") -> Job:
        return self.state.jobs[job]

    def command(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        self.state, answer = apply(self.state, {"at_s": self.now_s, **command})
        return answer

    def observed(self) -> Observed:
        reports = {
            peer: told.report() for peer, told in self.peers.items() if peer in self.state.members
        }
        gone = self.state.members.keys() - self.peers.keys()
        return Observed(
            now_s=self.now_s,
            reports=reports,
            heard_s=dict.fromkeys(reports, self.now_s),
            down_since_s=dict.fromkeys(gone, self.now_s - 1.0),
        )

    def plan_once(self) -> int:
        """Plan and apply; returns how many commands. None of them may be refused."""
        commands = plan(self.state, self.observed())
        for command in commands:
            answer = self.command(command)
            assert "error" not in answer, (command, answer)
        self.commands += commands
        return len(commands)

    def act(self) -> None:
        for peer in self.peers.values():
            peer.desk.act(self.state, self.now_s, peer.leaving)

    def settle(self, rounds: int = 60) -> None:
        """Until nobody has anything to do; fails when that does not come."""
        for _ in range(rounds):
            self.now_s += 40.0  # past every backoff
            planned = self.plan_once()
            self.act()
            if not self.play() and not planned and not plan(self.state, self.observed()):
                return
        raise AssertionError(f"still busy after {rounds} rounds: {self.commands[-5:]}")

    def play(self) -> int:
        """Every trainer does what it was told; returns how many had something to do."""
        return sum(
            peer.players.play(
                partial(self._said, peer), partial(self._ended, peer), self.may_finish, self.stuck
            )
            for peer in list(self.peers.values())
        )

    def _said(self, peer: FakePeer, child: str, message: dict[str, Any]) -> None:
        peer.desk.on_message(child, message, self.now_s)

    def _ended(self, peer: FakePeer, child: str, how: str) -> None:
        peer.desk.on_exit(child, how, self.now_s)

    def end(self, peer: FakePeer, child: str) -> None:
        """The trainer dies by itself."""
        peer.trainers.end(child)
        peer.desk.on_exit(child, "its process ended", self.now_s)
