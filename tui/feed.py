"""The feed: polls any peer through one `request` method and keeps the newest snapshot.

Latest value, never a queue: a slow screen skips snapshots instead of falling behind (a queued feed
showed data 17 s old in a measurement). A lost connection keeps the data, says so, and is retried
for ever with exponential backoff and full-range jitter, so that many screens do not come back in
step. The feed never raises out of `run`.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from p2p.errors import OutcomeUnknown, P2PError, Unreachable
from tui.asks import ASKS, LATER_INTERVALS, Ask, Wants
from tui.chat import Question
from tui.parsing import parse_detail, parse_events, parse_status
from tui.snapshot import Detail, Event, Snapshot, Status, shown_job
from tui.text import clean
from tui.told import Told

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 15.0
EVENTS_MAX = 2000
DUE_MAX = 500
DETAIL_INTERVALS = 2  # a job's curve is the largest answer: ask for it every second poll


class Answer(Protocol):
    """What is used of `p2p.generation.Generation`."""

    end: Any
    answering: Mapping[str, Any]

    @property
    def seed(self) -> int: ...

    @property
    def told_ids(self) -> Sequence[int]: ...

    def __aiter__(self) -> AsyncIterator[str]: ...


class Source(Protocol):
    """What the feed and the actions need of `p2p.client.Client`."""

    @property
    def address(self) -> str: ...

    async def request(self, verb: str, /, **args: Any) -> dict[str, Any]: ...

    async def generate(self, prompt: Question, **options: Any) -> Answer: ...


class Feed:
    """Holds `snapshot`, the newest one; calls `publish` with every new one."""

    def __init__(
        self,
        source: Source,
        publish: Callable[[Snapshot], None],
        interval_s: float = 1.0,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.interval_s = interval_s
        self.wants = Wants()
        self.snapshot = Snapshot()
        self._publish = publish
        self._rng = rng or random.Random()
        self._clock = clock
        self._wake = asyncio.Event()
        self._detail_key: tuple[object, ...] = ()
        self._detail_due_s = 0.0
        self._due_s: dict[tuple[object, ...], float] = {}

    def nudge(self) -> None:
        """Poll at once: an action was taken or another job was chosen."""
        self._wake.set()

    def forget(self) -> None:
        """What was told so far is of another time: begin afresh."""
        self.snapshot = Snapshot(self.snapshot.link)
        self._detail_key, self._detail_due_s = (), 0.0
        self._due_s.clear()

    async def run(self) -> None:
        """Poll for ever; returns only by being cancelled."""
        while True:
            await self._wait(await self.turn())

    async def turn(self) -> float:
        """One poll; returns the seconds to wait before the next one."""
        try:
            await self.poll()
        except Exception as error:  # a bug in one answer must not end the screen
            return self._lost(error)
        return self.interval_s

    async def poll(self) -> None:
        """Ask once for everything. Raises what the source raises, or BadAnswer."""
        status = parse_status(await self.source.request("status"))
        known = self.snapshot.status
        same = known is not None and known.cluster.id == status.cluster.id
        events = self.snapshot.events if same else ()
        link = replace(
            self.snapshot.link,
            state="live",
            address=self.source.address,
            error="",
            attempt=0,
            received_s=self._clock(),
            received_at=time.time(),
        )
        detail = self.snapshot.detail if same else None
        job = shown_job(status, self.wants.job)
        if detail is not None and (job is None or detail.job != job.id):
            detail = None
        told = self.snapshot.told if same else Told()
        self._show(Snapshot(link, status, events, detail, told))
        news = await self._news(events)
        if "job" in self.wants.needs:
            detail = await self._detail(status, detail)
        told = await self._told(status, told)
        if news or detail is not self.snapshot.detail or told is not self.snapshot.told:
            merged = (*events, *news)[-EVENTS_MAX:]
            self._show(replace(self.snapshot, events=merged, detail=detail, told=told))

    async def _news(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        since = events[-1].index if events else 0
        answer = parse_events(await self.source.request("events", since=since))
        return tuple(event for event in answer if event.index > since)

    async def _detail(self, status: Status, known: Detail | None) -> Detail | None:
        job = shown_job(status, self.wants.job)
        if job is None:
            return None
        key = (job.id, job.state, job.generation, job.step, job.accuracy)
        fresh = known is not None and known.job == job.id
        now_s = self._clock()
        if fresh and (key == self._detail_key or now_s < self._detail_due_s):
            return known
        try:
            detail = await self.source.request("job", job=job.id)
            history = await self.source.request("history", job=job.id)
        except Unreachable:
            raise
        except P2PError:
            return known  # the job is gone, or the peer does not know this verb yet
        self._detail_key = key
        # Half an interval early, or jitter would make it every third poll.
        self._detail_due_s = now_s + (DETAIL_INTERVALS - 0.5) * self.interval_s
        return parse_detail(job.id, detail, history)

    async def _told(self, status: Status, told: Told) -> Told:
        """What the view needs beyond this, as far as it is due."""
        job = shown_job(status, self.wants.job)
        wants = replace(self.wants, job=job.id if job else None)
        for ask in ASKS:
            if ask.need in wants.needs:
                told = await self._ask(ask, wants, told)
        return told

    async def _ask(self, ask: Ask, wants: Wants, told: Told) -> Told:
        now_s = self._clock()
        args = ask.args(wants, told, time.time())
        # Another peer, job or dataset is asked about at once.
        about = {name: value for name, value in (args or {}).items() if name != "since"}
        key = (ask.need, self.source.address, repr(about))
        if args is None or now_s < self._due_s.get(key, 0.0):
            return told
        if len(self._due_s) > DUE_MAX:
            self._due_s.clear()
        untold = {verb: why for verb, why in told.untold.items() if verb != ask.verb}
        # Half an interval early, as for the curve.
        self._due_s[key] = now_s + (ask.every - 0.5) * self.interval_s
        try:
            answer = await self.source.request(ask.verb, **args)
        except (Unreachable, OutcomeUnknown):
            raise
        except P2PError as error:
            self._due_s[key] = now_s + LATER_INTERVALS * self.interval_s
            return replace(told, untold={**untold, ask.verb: clean(str(error))})
        if ask.verb in told.untold:
            told = replace(told, untold=untold)
        return ask.keep(told, answer, wants)

    def _lost(self, error: Exception) -> float:
        attempt = self.snapshot.link.attempt + 1
        delay_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(attempt - 1, 10))
        delay_s *= self._rng.uniform(0.5, 1.0)
        link = self.snapshot.link
        link = replace(
            link,
            state="connecting" if link.received_s is None else "lost",
            address=self.source.address,
            error=clean(str(error) or type(error).__name__),
            attempt=attempt,
            retry_at_s=self._clock() + delay_s,
        )
        self._show(replace(self.snapshot, link=link))
        return delay_s

    async def _wait(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), delay_s)
        self._wake.clear()

    def _show(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._publish(snapshot)
