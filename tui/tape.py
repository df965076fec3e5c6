"""Recordings: every answer a screen got, and a source that gives them again, at any moment.

A recording is JSON lines: {"at": Unix time, "verb", "args", "answer"}. Everything that looks is
kept, what is asked of the cluster is not. A replay is a Source like a cluster: the feed, the views
and their keys do not know the difference. Only where each answer lies is kept in memory, besides
what came in instalments (events and histories).
"""

import json
import math
import time
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from p2p.errors import P2PError, Refused, Usage
from tui.asks import ASKS, SERIES_WINDOW_S
from tui.chat import Question
from tui.feed import Answer, Source
from tui.scene import Reel

LOOKS = frozenset({"status", "events", "job", "history", *(ask.verb for ask in ASKS)})
STEP_SHARE = 60  # a step of the slider is at least this part of the whole, or one answer
HEAD = {"p2ptui": "recording", "version": 1}


class Recorder:
    """A source that writes down what it is told. A file that cannot be written ends it once."""

    def __init__(self, source: Source, path: str) -> None:
        self._source = source
        self._last: dict[str, str] = {}
        try:
            self._file: BinaryIO | None = open(path, "xb")  # noqa: SIM115 - as long as the screen
        except OSError as error:
            raise Usage(f"cannot record to {path}: {error.strerror}") from error
        self._file.write((json.dumps(HEAD) + "\n").encode())

    @property
    def address(self) -> str:
        return self._source.address

    async def request(self, verb: str, /, **args: Any) -> dict[str, Any]:
        answer = await self._source.request(verb, **args)
        if verb in LOOKS and self._file is not None:
            self._write(verb, args, answer)
        return answer

    async def generate(self, prompt: Question, **options: Any) -> Answer:
        return await self._source.generate(prompt, **options)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, verb: str, args: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        told = json.dumps(answer, separators=(",", ":"), default=str)
        about = _about(verb, args)
        if verb != "status" and self._last.get(about) == told:
            return
        self._last[about] = told
        head = json.dumps(
            {"at": round(time.time(), 3), "address": self.address, "verb": verb, "args": args}
        )
        try:
            assert self._file is not None
            self._file.write(f'{head[:-1]}, "answer": {told}}}\n'.encode())
            self._file.flush()
        except OSError:
            self.close()
            raise


@dataclass
class _Kept:
    """Where the answers about one thing lie, by time."""

    at: list[float] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)


class Replay:
    """A source that answers as the cluster did at a moment of a recording. `step` and `seek_part`
    move that moment; while `is_playing`, `play` moves it on by the time that went by.

    Raises Usage for a file that is no recording.
    """

    def __init__(self, path: str) -> None:
        self.is_playing = True
        self._kept: dict[str, _Kept] = {}
        self._addresses: list[str] = []
        self._played_s = time.monotonic()
        try:
            self._file = Path(path).open("rb")  # noqa: SIM115 - as long as the screen
        except OSError as error:
            raise Usage(f"cannot read {path}: {error.strerror}") from error
        try:
            self._index(path)
        except Usage:
            self._file.close()
            raise
        self._place, self._at = 0, self._times[0]  # which answer, and the clock while it is played

    @property
    def _times(self) -> list[float]:
        return self._kept["status"].at

    @property
    def _until(self) -> float:
        """Where the next status lies: what was asked with this one lies before it. By the place
        in the file, for several answers may come within a millisecond.
        """
        offsets, place = self._kept["status"].offsets, self._place + 1
        return offsets[place] if place < len(offsets) else math.inf

    @property
    def reel(self) -> Reel:
        times, place = self._times, self._place
        return Reel(place, len(times), times[place], times[0], times[-1], self.is_playing)

    @property
    def address(self) -> str:
        return self._addresses[self._place]

    def step(self, delta: int) -> None:
        """By a sixtieth of it, or by one answer where there are fewer."""
        reel = self.reel
        place = reel.position + delta * max(1, reel.total // STEP_SHARE)
        self._go(max(0, min(place, reel.total - 1)))

    def seek_part(self, part: float) -> None:
        self._go(round(max(0.0, min(1.0, part)) * (len(self._times) - 1)))

    def _go(self, place: int) -> None:
        self._place, self._at = place, self._times[place]

    def toggle(self) -> None:
        """Play, from the beginning where the end is reached, or stop."""
        self.is_playing = not self.is_playing
        if self.is_playing and self._place == len(self._times) - 1:
            self._go(0)
        self._played_s = time.monotonic()

    def play(self) -> bool:
        """On by the time since it was asked last; whether there is something new to show."""
        now_s = time.monotonic()
        went_by, self._played_s = now_s - self._played_s, now_s
        if not self.is_playing:
            return False
        before = self._place
        self._at += went_by
        self._place = max(before, bisect_right(self._times, self._at) - 1)
        self.is_playing = self._place < len(self._times) - 1
        return self._place != before

    async def request(self, verb: str, /, **args: Any) -> dict[str, Any]:
        if verb not in LOOKS:
            raise Refused("this is a recording: nothing can be asked of the cluster")
        kept = self._kept.get(_about(verb, args), _Kept())
        place = bisect_left(kept.offsets, self._until) if verb != "status" else self._place + 1
        if verb == "events":
            return self._events(kept, place, int(args.get("since", 0)))
        if not place:
            raise P2PError("not in the recording")
        if verb == "metrics" and not args.get("latest"):
            return self._series(kept, place)
        return self._answer(kept.offsets[place - 1])

    async def generate(self, prompt: Question, **options: Any) -> Answer:
        raise Refused("this is a recording: nobody answers in it")

    def close(self) -> None:
        self._file.close()

    # -- reading ---------------------------------------------------------------------------------

    def _index(self, path: str) -> None:
        offset = 0
        for number, line in enumerate(self._file):
            row = _parsed(line)
            if number == 0 and (row is None or row.get("p2ptui") != HEAD["p2ptui"]):
                raise Usage(f"{path} is no recording of p2ptui --record")
            if number and row is not None and isinstance(row.get("answer"), dict):
                verb, args, at = row.get("verb"), row.get("args"), row.get("at")
                if verb in LOOKS and isinstance(args, dict) and isinstance(at, int | float):
                    kept = self._kept.setdefault(_about(str(verb), args), _Kept())
                    kept.at.append(float(at))
                    kept.offsets.append(offset)
                    if verb == "status":
                        self._addresses.append(str(row.get("address", "")))
            offset += len(line)
        if "status" not in self._kept:
            raise Usage(f"{path} has nothing in it yet: let p2ptui --record run for a while")

    def _answer(self, offset: int) -> dict[str, Any]:
        self._file.seek(offset)
        row = _parsed(self._file.readline())
        if row is None:
            raise P2PError("the recording was changed while it was replayed")
        answer: dict[str, Any] = row["answer"]
        return answer

    def _events(self, kept: _Kept, place: int, since: int) -> dict[str, Any]:
        """All up to that moment; each recorded answer has only what was new."""
        found: dict[int, Any] = {}
        for offset in kept.offsets[:place]:
            for event in self._answer(offset).get("events", ()):
                if isinstance(event, dict) and int(event.get("index", 0)) > since:
                    found[int(event["index"])] = event
        return {"schema": 1, "events": [found[index] for index in sorted(found)]}

    def _series(self, kept: _Kept, place: int) -> dict[str, Any]:
        """What the last minutes' answers had together; older ones are not on the screen."""
        series: dict[str, dict[float, Any]] = {}  # since: the feed joins what it gets again
        first = bisect_right(kept.at, self._at - SERIES_WINDOW_S)
        for offset in kept.offsets[first:place]:
            for name, told in self._answer(offset).get("series", {}).items():
                rows = told.get("points", ()) if isinstance(told, dict) else ()
                series.setdefault(name, {}).update({row[0]: row for row in rows if row})
        points = {
            name: {"points": [found[at] for at in sorted(found)]} for name, found in series.items()
        }
        return {"schema": 1, "series": points}


def _about(verb: str, args: Mapping[str, Any]) -> str:
    """What an answer is about: the request without what only says since when."""
    told = {name: value for name, value in args.items() if name not in ("since", "names")}
    return verb if not told else f"{verb} {json.dumps(told, sort_keys=True, default=str)}"


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line of a recording; None for one that was cut off by the end of its process."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
