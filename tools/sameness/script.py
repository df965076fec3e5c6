"""What happens to every job here, in this order: a peer is killed with kill -9 and started again,
so that its trainer joins, while another one is slowed down until shards move; the job is paused,
saved and resumed.

On real peers. Each thing is waited for until the job's generations show it; a job that is over too
early is a problem, for then nothing was shown.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from p2p.replicated.job_states import FINAL
from p2p.scenarios.trainer_processes import SlowDown, trainers_of
from tools.chaos.crew import Crew, Member
from tools.storm.verdict import problems_of

Told = dict[str, Any]

PATIENCE_S = 600.0  # on a busy machine
WARM = 0.05  # of all steps, before the first thing happens
SLOW_SHARE, CYCLE_S = 1 / 3, 0.01  # of the time that the slow trainer runs; how often it is stopped
KEPT = 100  # what is saved in the pause is still there when the job has ended
MOVES = "shards move to the fast"


@dataclass
class Run:
    """One job. `saved`: the step of the checkpoint that was asked for, in the pause."""

    crew: Crew
    name: str
    job: str
    peers: int
    happened: list[str] = field(default_factory=list)
    told: Told = field(default_factory=dict)
    saved: int = 0

    def until(self, is_so: Callable[[Told], Any], what: str) -> bool:
        """Wait; a problem, and False, if that does not come to be."""
        so = False

        def asked() -> bool:
            nonlocal so
            told = self.crew.ask("job", job=self.job)
            if told is None:
                return False
            self.told, so = told, bool(is_so(told))
            return so or told["state"] in FINAL

        self.crew.until(asked, f"{self.name} on {self.peers} peers: {what}", PATIENCE_S)
        if self.told.get("state") in FINAL and not so:
            self.crew.problems.append(
                f"{self.name} on {self.peers} peers {self.told['state']} before {what}"
            )
        return so

    def end(self) -> None:
        self.until(lambda told: told["state"] in FINAL, "its end")

    def row(self, calm: Told) -> list[str]:
        """Of the table; what is not as in the undisturbed run is a problem of the crew."""
        found = list(problems_of(self.told, calm)) if self.told else ["it has no end"]
        self.crew.problems += found
        exact = sum(row["repeated"] + row["missing"] for row in self.told["ledger"]) == 0
        return [
            *(self.name, str(self.peers), ", ".join(self.happened)),
            str(len(self.told["generations"])),
            "exact" if exact and self.told["ledger"] == calm["ledger"] else "NOT EXACT",
            str(self.told["state_hash"]).removeprefix("sha256:")[:16],
            "NO" if found else "yes",
        ]


def ask(crew: Crew, verb: str, **args: Any) -> Told:
    """Raises P2PError."""

    async def main() -> Told:
        client = crew.client()
        try:
            return await client.request(verb, **args)
        finally:
            await client.close()

    return asyncio.run(main())


def submitted(crew: Crew, name: str, spec: Told, peers: int) -> Run:
    wish = {**spec, "name": f"{name}-{peers}", "peers_min": 1, "peers_max": peers}
    wish["keep_checkpoints"] = KEPT
    return Run(crew, name, str(ask(crew, "submit", **wish)["job"]), peers)


def undisturbed(crew: Crew, name: str, spec: Told) -> Run:
    run = submitted(crew, name, spec, 1)
    run.happened.append("nothing")
    run.end()
    return run


def disturbed(crew: Crew, name: str, spec: Told, peers: int) -> Run:
    run = submitted(crew, name, spec, peers)
    began = run.until(
        lambda told: (
            len(told["members"]) == peers
            and told["step"] >= WARM * (told["steps_total"] or float("inf"))
        ),
        f"{peers} trainers",
    )
    if began:
        _replaced(run) if peers > 1 else _lost(run)
    if began:
        _paused(run)
    run.end()
    return run


def restored(crew: Crew, run: Run, peers: int) -> Run:
    """From what was saved in the pause of that run, onto so many peers."""
    wish = {"step": run.saved, "peers_min": peers, "peers_max": peers}
    again = ask(crew, "restore", job=run.job, **wish)
    made = Run(crew, run.name, str(again["job"]), peers)
    made.happened = [f"restored from step {run.saved} on {run.peers}"]
    made.end()
    return made


def _replaced(run: Run) -> None:
    """A peer is killed, the leader where the others are a majority without it; while it comes back,
    a trainer of another is slowed down."""
    crew, before = run.crew, run.told["generation"]
    leader = (crew.ask("status") or {"cluster": {"leader": None}})["cluster"]["leader"]
    up = sorted(crew.of("up"), key=lambda member: member.peer.id == leader)
    victim = up[-1] if run.peers > 2 else up[0]
    crew.kill(victim)
    what = "leader killed" if victim.peer.id == leader else "kill"
    if run.until(lambda told: _stepped_without(told, victim, before), "it goes on without"):
        run.happened.append(what)
    others = [trainers_of(member.peer.process.pid) for member in crew.of("up")]
    crew.start(victim)

    def moved(told: Told) -> bool:
        return any(MOVES in made["reason"] for made in told["generations"][before:])

    with SlowDown(next(pids[0] for pids in others if pids), SLOW_SHARE, CYCLE_S):
        if run.until(lambda told: _stepped_with(told, victim, before), "its peer is back"):
            run.happened.append("join")
        if run.until(moved, "shards move away from a slow trainer"):
            run.happened.append("shards moved")


def _lost(run: Run) -> None:
    """The only peer, and with it every trainer: back to a checkpoint."""
    crew = run.crew
    ask(crew, "checkpoint", job=run.job)
    if not run.until(lambda told: told["checkpoints"], "a checkpoint"):
        return
    (victim,) = crew.of("up")
    crew.kill(victim)
    crew.start(victim)
    if run.until(lambda told: len(told["generations"]) > 1 and _steps(told), "its peer is back"):
        run.happened.append("kill, back to a checkpoint")


def _paused(run: Run) -> None:
    crew = run.crew

    def is_paused(told: Told) -> bool:
        if told["state"] == "running":
            crew.ask("pause", job=run.job)
        return bool(told["state"] == "paused")

    if not run.until(is_paused, "it is paused"):
        return
    step = run.told["step"]
    ask(crew, "checkpoint", job=run.job)
    if run.until(lambda told: _saved(told) >= step, "it is saved"):
        run.saved = _saved(run.told)
    ask(crew, "resume", job=run.job)
    run.happened.append("pause")


def _saved(told: Told) -> int:
    return int(told["checkpoints"][-1]["step"]) if told["checkpoints"] else -1


def _steps(told: Told) -> bool:
    return told["generations"][-1]["start_step"] is not None


def _stepped_without(told: Told, victim: Member, before: int) -> bool:
    return any(
        made["start_step"] is not None and victim.peer.id not in made["members"]
        for made in told["generations"][before:]
    )


def _stepped_with(told: Told, victim: Member, before: int) -> bool:
    without = [
        at
        for at, made in enumerate(told["generations"])
        if at >= before and victim.peer.id not in made["members"]
    ]
    after = told["generations"][without[0] :] if without else []
    return any(
        made["start_step"] is not None and victim.peer.id in made["members"] for made in after
    )
