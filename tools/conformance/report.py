"""What became of the suite's tests: counts, reasons, and the comparison with gloo. Pure."""

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    test: str
    outcome: str  # pass, skip or fail
    why: str
    seconds: float


def names(results: Iterable[Result], outcome: str) -> list[str]:
    return sorted(result.test for result in results if result.outcome == outcome)


def counts(backend: str, world_size: int, results: Sequence[Result]) -> str:
    number = {outcome: len(names(results, outcome)) for outcome in ("pass", "fail", "skip")}
    seconds = sum(result.seconds for result in results)
    return (
        f"{backend}, world size {world_size}: {number['pass']} passed, {number['fail']} failed, "
        f"{number['skip']} skipped ({seconds:.0f} s)"
    )


def skipped(results: Sequence[Result]) -> str:
    """Every reason with the tests it kept out, the most frequent first."""
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for result in results:
        if result.outcome == "skip":
            by_reason[result.why].append(result.test.removeprefix("test_"))
    lines = []
    for reason, tests in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        lines.append(f"  {len(tests):3}  {reason}")
        wrapped = textwrap.wrap(", ".join(sorted(tests)), 100)
        lines += [f"       {line}" for line in wrapped]
    return "\n".join(lines)


def failures(results: Sequence[Result]) -> str:
    return "\n".join(
        f"--- {result.test}\n{result.why.rstrip()[-3000:]}"
        for result in results
        if result.outcome == "fail"
    )


def verdict(ours: Sequence[Result], gloo_passes: Sequence[str]) -> tuple[bool, str]:
    """Whether nothing failed and all that gloo passes passed; and that as a sentence."""
    outcome: Mapping[str, str] = {result.test: result.outcome for result in ours}
    worse = sorted(test for test in gloo_passes if outcome.get(test) != "pass")
    failed = names(ours, "fail")
    beyond = len(set(names(ours, "pass")) - set(gloo_passes))
    sentence = f"gloo passes {len(gloo_passes)} of them"
    if worse:
        sentence += f"; not passed of these: {', '.join(worse)}"
    else:
        sentence += f"; all of these passed, and {beyond} more"
    if failed:
        sentence += f"; failed: {', '.join(failed)}"
    return not worse and not failed, sentence
