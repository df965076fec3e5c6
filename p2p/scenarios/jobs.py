"""A scenario's jobs, by the names it gives them: submitted, changed, looked at, measured."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2p import task_files
from p2p.errors import P2PError, Usage
from p2p.scenarios import scenario as do
from p2p.scenarios.facts import Facts
from p2p.scenarios.news import Fact, Progress, Tell
from p2p.scenarios.peers import Peers

ASK_EVERY_S = 0.1
LOOK_EVERY_S = 0.025  # while a rate is measured
Told = dict[str, Any]


class Jobs:
    """`specs`: what each job would be if nothing happened to it, to be compared with."""

    def __init__(self, peers: Peers, facts: Facts, tell: Tell, folder: str) -> None:
        self._peers, self._facts, self._tell = peers, facts, tell
        self._folder = Path(folder)
        self._ids: dict[str, str] = {}
        self.specs: dict[str, Told] = {}

    async def look(self, name: str) -> Told:
        """The newest answer about it; it is kept, and what is new of it told. Raises Usage."""
        told = await self._ask("job", self._id(name))
        before = self._facts.jobs.get(name)
        self._facts.jobs[name] = told
        if before is None or _progress(name, before) != _progress(name, told):
            self._tell(_progress(name, told))
        return told

    async def submit_as_is(self, name: str, request: Mapping[str, Any]) -> None:
        answer = await self._peers.client.request("submit", **{"name": name, **request})
        self._ids[name] = str(answer["job"])

    # -- steps ---------------------------------------------------------------------------------

    async def submit(self, action: do.Submit) -> None:
        files = task_files.travelling(action.task, self._folder)
        request = {"task": action.task, **files, **action.settings}
        self.specs[action.job] = {**request, **action.undisturbed}
        await self.submit_as_is(action.job, request)

    async def restore(self, action: do.Restore) -> None:
        kept = [one["step"] for one in (await self.look(action.job))["checkpoints"]]
        given = {"step": min(kept, default=None), "name": action.into, **action.settings}
        answer = await self._ask("restore", self._id(action.job), **given)
        self.specs[action.into] = self.specs[action.job]
        self._ids[action.into] = str(answer["job"])

    async def change(self, action: do.Set) -> None:
        await self._ask("set", self._id(action.job), changes=dict(action.changes))

    async def pause(self, action: do.Pause) -> None:
        await self._ask("pause", self._id(action.job))

    async def resume(self, action: do.Resume) -> None:
        await self._ask("resume", self._id(action.job))

    async def cancel(self, action: do.Cancel) -> None:
        await self._ask("cancel", self._id(action.job))

    async def checkpoint(self, action: do.Checkpoint) -> None:
        known = await self._saved(action.job)
        await self._ask("checkpoint", self._id(action.job))
        deadline_s = time.monotonic() + do.WITHIN_S
        while not await self._saved(action.job) - known:
            if time.monotonic() > deadline_s:
                raise P2PError(f"{action.job} was not saved within {do.WITHIN_S:g} s")
            await asyncio.sleep(ASK_EVERY_S)

    async def _saved(self, name: str) -> set[int]:
        return {one["step"] for one in (await self.look(name))["checkpoints"]}

    async def measure(self, action: do.Measure) -> None:
        """From one change of the number of samples to another, so that no part of a step counts."""
        began_s, first = await self._next_samples(action.job)
        at_s, last = began_s, first
        while at_s - began_s < action.seconds:
            at_s, last = await self._next_samples(action.job)
        rate = (last - first) / (at_s - began_s)
        self._facts.rates[action.called] = rate
        self._tell(Fact(f"{action.called}: {rate:.0f} samples/s over {at_s - began_s:.1f} s"))

    async def _next_samples(self, name: str) -> tuple[float, int]:
        """When there were more than now, and how many."""
        before = (await self.look(name))["samples"]
        deadline_s = time.monotonic() + do.WITHIN_S
        while (told := await self.look(name))["samples"] <= before:
            if time.monotonic() > deadline_s:
                state = told["state"]
                raise P2PError(f"{name} made no step within {do.WITHIN_S:g} s; it is {state}")
            await asyncio.sleep(LOOK_EVERY_S)
        return time.monotonic(), int(told["samples"])

    def _id(self, name: str) -> str:
        if name not in self._ids:
            raise Usage(f"no step before this one submits a job {name!r}")
        return self._ids[name]

    async def _ask(self, verb: str, job: str, **args: Any) -> Told:
        return await self._peers.client.request(verb, job=job, **args)


def _progress(name: str, told: Mapping[str, Any]) -> Progress:
    return Progress(
        name,
        told["state"],
        told["step"],
        told["steps_total"] or 0,
        len(told["members"]),
        told["loss"],
        told["metrics"].get("accuracy"),
    )
