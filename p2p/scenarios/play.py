"""Plays scenarios one after the other, tells what happens, and judges what must hold."""

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from p2p.control.autopilot import voters_wanted
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster
from p2p.scenarios.checks import SameBits
from p2p.scenarios.facts import BadCheck, Facts
from p2p.scenarios.news import Begins, Caption, Checked, Ends, Fact, Tell
from p2p.scenarios.scenario import Scenario, Start, Step, Wait
from p2p.scenarios.stage import Stage
from p2p.scenarios.witness import Witness

Report = dict[str, Any]
CALM = "undisturbed"
NOT_COMPARED = ("peers_min", "peers_max")
VOTES = "Votes are dealt out, so that one failure changes nothing"
ALONE = "A peer founds a cluster: a process of its own on this host"
TOGETHER = "{} peers found a cluster, each a process of its own on this host"


@dataclass(slots=True)
class Player:
    """Keeps what undisturbed runs came to, so that each is made once: equal jobs end alike."""

    tell: Tell
    _calm: dict[str, Report] = field(default_factory=dict)

    async def play_all(self, scenarios: Sequence[Scenario]) -> Report:
        """The report: of all together, and of each. What fails in one ends only that one."""
        began_s = time.monotonic()
        made = []
        for number, scenario in enumerate(scenarios, start=1):
            begins = Begins(scenario.name, scenario.why, number, len(scenarios), _count(scenario))
            self.tell(begins)
            made.append(await self._play(scenario))
        return {
            "schema": 1,
            "ok": all(one["ok"] for one in made),
            "seconds": round(time.monotonic() - began_s, 1),
            "scenarios": made,
        }

    async def _play(self, scenario: Scenario) -> Report:
        began_s = time.monotonic()
        report: Report = {"name": scenario.name, "why": scenario.why, "ok": False, "error": None}
        report |= {"steps": [], "facts": [], "checks": []}

        def tell(news: Any) -> None:
            if isinstance(news, Fact):
                report["facts"].append(news.text)
            self.tell(news)

        try:
            facts = await self._perform(scenario, report, tell)
            report["checks"] = self._judge(scenario, facts)
        except (P2PError, BadCheck) as error:
            report["error"] = str(error)
        failed = [one["text"] for one in report["checks"] if not one["ok"]]
        report["ok"] = not failed and report["error"] is None
        report["seconds"] = round(time.monotonic() - began_s, 1)
        held = f"all {len(report['checks'])} things that must hold do"
        ending = report["error"] or ("; ".join(failed) if failed else held)
        self.tell(Ends(scenario.name, report["ok"], ending))
        return report

    async def _perform(self, scenario: Scenario, report: Report, tell: Tell) -> Facts:
        with LocalCluster() as cluster:
            stage = Stage(cluster, tell, scenario.folder)
            witness = Witness(cluster, stage.facts, tell)
            watching = asyncio.ensure_future(witness.watch())
            try:
                count = _count(scenario)
                for number, step in enumerate(_all_steps(scenario), start=1):
                    tell(Caption(number, count, step.says, step.watch, step.view))
                    began_s = time.monotonic()
                    row: Report = {"says": step.says, "seconds": None}
                    report["steps"].append(row)
                    await stage.perform(step.do)
                    row["seconds"] = round(time.monotonic() - began_s, 2)
                await witness.look()
            finally:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching
                await stage.close()
        for check in scenario.must:
            if isinstance(check, SameBits):
                stage.facts.job(check.job)
                calm = await self._undisturbed(stage.jobs.specs[check.job], _count(scenario))
                stage.facts.undisturbed[check.job] = calm
        return stage.facts

    async def _undisturbed(self, spec: Report, count: int) -> Report:
        """What the job comes to on one peer in whose cluster nothing happens."""
        calm = {name: value for name, value in spec.items() if name not in NOT_COMPARED}
        key = json.dumps(calm, sort_keys=True, default=repr)
        if key not in self._calm:
            says = "the same job on one peer, undisturbed, to compare with"
            self.tell(Caption(count, count, says, "the state's hash at the end", "training"))
            with LocalCluster() as cluster:
                stage = Stage(cluster, self.tell, ".")
                try:
                    await stage.perform(Start(1))
                    await stage.jobs.submit_as_is(CALM, calm)
                    await stage.perform(Wait(CALM, "finished"))
                    self._calm[key] = dict(stage.facts.jobs[CALM])
                finally:
                    await stage.close()
        return self._calm[key]

    def _judge(self, scenario: Scenario, facts: Facts) -> list[Report]:
        rows = []
        for check in scenario.must:
            ok, text = check.verdict(facts)
            self.tell(Checked(ok, text))
            rows.append({"check": type(check).__name__, "ok": ok, "text": text})
        return rows


def _all_steps(scenario: Scenario) -> tuple[Step, ...]:
    """With the peers that are there at the beginning: all in, and as many votes as should be."""
    peers = scenario.peers
    says = ALONE if peers == 1 else TOGETHER.format(peers)
    return (
        Step(Start(peers, scenario.slots), says, "who leads", "overview"),
        Step(Wait(alive=peers, voters=voters_wanted(peers)), VOTES, "who votes", "peers"),
        *scenario.steps,
    )


def _count(scenario: Scenario) -> int:
    """How many steps it has, the comparison with an undisturbed run among them."""
    compares = any(isinstance(check, SameBits) for check in scenario.must)
    return len(_all_steps(scenario)) + compares
