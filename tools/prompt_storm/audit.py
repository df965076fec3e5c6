"""What the clients were told, compared with what one undisturbed process says. Pure."""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.bench.contender import percentile
from tools.prompt_storm.questions import BAD, Said

Record = Mapping[str, Any]
SHOWN = 60  # characters around a difference


@dataclass(frozen=True, slots=True)
class Verdict:
    """`counts`: of how many requests, by how they were asked and what came of them."""

    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    moves: int = 0  # how often another replica went on, in all answers together


def audited(
    records: Iterable[Record], answers: Mapping[str, Said], vanished: Iterable[str]
) -> Verdict:
    """`records`: as tools.prompt_storm.clients writes them, `by` their process."""
    begun: dict[str, Record] = {}
    ended: dict[str, Record] = {}
    problems: list[str] = []
    counts: Counter[str] = Counter()
    for record in records:
        if record["result"] == "begun":
            begun[record["id"]] = record
            continue
        if record["id"] in ended:
            problems.append(f"{record['id']} was answered twice")
        ended[record["id"]] = record
        counts[f"{record['how']}: {record['result']}"] += 1
        problems += problems_of(record, answers)
    gone = set(vanished)
    for id_, record in begun.items():
        if id_ not in ended and record["by"] in gone:
            counts[f"{record['how']}: vanished"] += 1
        elif id_ not in ended:
            problems.append(f"{id_} ({record['how']}, {record['question']}) was lost")
    problems += vacuous(counts)
    tokens = sum(len(record.get("ids", ())) for record in ended.values())
    return Verdict(problems, counts, tokens, sum(r.get("moves", 0) for r in ended.values()))


def problems_of(record: Record, answers: Mapping[str, Said]) -> Iterator[str]:
    who = f"{record['id']} ({record['how']}, {record['question']})"
    if record["how"] == "bad":
        _, _, words = BAD[int(record["question"].removeprefix("bad-"))]
        if record["result"] != "error" or words not in record["error"]:
            yield f"{who} was told {record['error'] or record['result']!r}, not {words!r}"
        return
    said = answers[record["question"]]
    if record["how"] == "twice":
        yield from _problems_of_two(who, record, said)
    elif record["result"] == "error":
        yield f"{who} failed: {record['error']}"
    elif record["result"] == "cancelled":
        yield from _differs(who, record, said, is_whole=False)
    else:
        yield from _differs(who, record, said, is_whole=True)


def _problems_of_two(who: str, record: Record, said: Said) -> Iterator[str]:
    """Asked twice under one id: one whole answer, to whoever asked last."""
    if record["result"] == "interrupted":
        return
    first, second = record["first"], record["second"]
    for name, stream in (("first", first), ("second", second)):
        if stream["is_torn"]:
            yield f"{who}: the {name} misses or repeats tokens"
        if stream["after_end"]:
            yield f"{who}: the {name} was told {stream['after_end']} times more after its end"
        yield from _differs(f"{who}, the {name}", stream, said, is_whole=stream["end"] == "ok")
    if second["end"] != "ok":
        yield f"{who}: the second was not answered ({second['end']})"
    if first["end"] == "ok" and not record["was_over"]:
        yield f"{who}: both were answered"


def _differs(who: str, told: Record, said: Said, is_whole: bool) -> Iterator[str]:
    """From what an undisturbed process says, or from its beginning."""
    ids, text = tuple(told["ids"]), told["text"]
    if ids != (said.ids if is_whole else said.ids[: len(ids)]):
        at = next((n for n, (a, b) in enumerate(zip(ids, said.ids, strict=False)) if a != b), None)
        where = f"token {at}" if at is not None else "the end"
        yield f"{who} differs from {where} on: {len(ids)} tokens, {len(said.ids)} undisturbed"
    if text != said.text if is_whole else not said.text.startswith(text):
        at = next((n for n, (a, b) in enumerate(zip(text, said.text, strict=False)) if a != b), 0)
        shown = f"{text[at : at + SHOWN]!r}, undisturbed {said.text[at : at + SHOWN]!r}"
        yield f"{who} has another text from character {at} on: {shown}"


def vacuous(counts: Counter[str]) -> Iterator[str]:
    """Kinds of which none came to its end say nothing."""
    wanted = ("whole: whole", "conversation: whole", "slow: whole", "cancel: cancelled")
    for name in (*wanted, "twice: twice", "bad: error"):
        if not counts[name]:
            yield f"nothing was seen of {name!r}, so nothing is said about it"


def gaps_at_deaths(records: Iterable[Record], deaths: Sequence[Any]) -> dict[str, list[float]]:
    """Seconds for which a stream stood still when the replica, or the peer, that it came from was
    killed (`deaths`: tools.prompt_storm.faults.Death); of slow readers none.
    """
    found: dict[str, list[float]] = {"replica": [], "front": []}
    for record in records:
        if record["how"] == "slow":
            continue
        for gap in record.get("gaps", ()):
            hit = [d for d in deaths if gap["from_s"] <= d.at_s <= gap["to_s"]]
            seconds = gap["to_s"] - gap["from_s"]
            if any(death.kind == "kill" and death.address == gap["front"] for death in hit):
                found["front"].append(seconds)
            elif any(death.peer == gap["peer"] for death in hit):
                found["replica"].append(seconds)
    return found


def all_gaps(records: Iterable[Record]) -> list[float]:
    return [
        gap["to_s"] - gap["from_s"]
        for record in records
        if record["how"] != "slow"
        for gap in record.get("gaps", ())
    ]


def first_tokens(records: Iterable[Record]) -> list[float]:
    """Seconds from the question to the first piece of its answer."""
    return [
        record["first_s"] - record["begun_s"]
        for record in records
        if record.get("first_s") is not None
    ]


def spread(seconds: Sequence[float]) -> dict[str, float | int]:
    """Of these: count, median, p95, max."""
    ordered = sorted(seconds)
    if not ordered:
        return {"count": 0}
    told = (statistics.median(ordered), percentile(ordered, 0.95), ordered[-1])
    names = ("median_s", "p95_s", "max_s")
    return {"count": len(ordered), **{n: round(s, 3) for n, s in zip(names, told, strict=True)}}
