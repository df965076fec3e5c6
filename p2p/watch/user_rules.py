"""Rules of a user's own, from a TOML file:

    off = ["checkpoint-old"]            # built-in rules that shall not fire

    [[rule]]
    name = "memory"                     # not that of a built-in one
    metric = "system.memory_bytes"      # a name of p2p.measure, or a pattern: job.*.metric.accuracy
    comparison = ">"                    # > >= < <=
    threshold = 60e9
    clear = 50e9                        # it is over below this; default: the threshold
    for_s = 30                          # default 0
    clear_s = 30                        # and when that has lasted; default 5
    severity = "warning"                # info, warning (default), critical
    text = "{peer} uses {value} bytes"  # also {metric}, {threshold}, {job}

Pure: reads a text, not a file.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from operator import ge, gt, le, lt
from typing import Any

from p2p.errors import Usage
from p2p.replicated.state import TEXT_MAX
from p2p.watch.facts import SEVERITIES, Facts
from p2p.watch.rule import Finding, Rule

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {">": gt, ">=": ge, "<": lt, "<=": le}
RULES_MAX = 100
SECONDS_MAX = 86_400.0
CLEAR_S = 5.0
_TEXTS = ("name", "metric", "comparison", "severity", "text", "command")
_NUMBERS = ("threshold", "clear", "for_s", "clear_s")


def with_users(built_in: Sequence[Rule], text: str, where: str) -> tuple[Rule, ...]:
    """The rules in force. Raises Usage, saying what in `where` is wrong."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Usage(f"cannot read {where}: {error}") from error
    unknown = sorted(set(table) - {"off", "rule"})
    if unknown:
        raise Usage(f"{where} has {unknown[0]!r}: there are `off` and [[rule]]")
    off, told = table.get("off", []), table.get("rule", [])
    if not isinstance(off, list) or not isinstance(told, list) or len(told) > RULES_MAX:
        raise Usage(
            f"{where}: `off` is a list of names, and there are at most {RULES_MAX} [[rule]]"
        )
    names = [rule.name for rule in built_in]
    wrong = [name for name in off if name not in names]
    if wrong:
        raise Usage(f"{where} turns off {wrong[0]!r}: there are {', '.join(names)}")
    rules = [rule for rule in built_in if rule.name not in off]
    for number, fields in enumerate(told, 1):
        made = _rule(fields, f"{where}, rule {number}")
        if made.name in names:
            raise Usage(f"{where}, rule {number}: there is a rule {made.name!r} already")
        names.append(made.name)
        rules.append(made)
    return tuple(rules)


def _rule(fields: Any, where: str) -> Rule:
    if not isinstance(fields, dict):
        raise Usage(f"{where} is no table")
    _check(fields, where)
    severity = fields.get("severity", "warning")
    if severity not in SEVERITIES:
        raise Usage(f"{where}: severity is {severity!r}, there are {', '.join(SEVERITIES)}")
    comparison = fields["comparison"]
    if comparison not in COMPARISONS:
        raise Usage(f"{where}: comparison is {comparison!r}, there are {' '.join(COMPARISONS)}")
    threshold = float(fields["threshold"])
    clear = float(fields.get("clear", threshold))
    if COMPARISONS[comparison](clear, threshold) and clear != threshold:
        raise Usage(f"{where}: clear = {clear:g} is beyond threshold = {threshold:g}")
    text = fields.get("text", "{peer}: {metric} is {value}, limit {threshold}")
    return Rule(
        name=fields["name"],
        severity=severity,
        part="training" if fields["metric"].startswith("job.") else "machines",
        meaning=f"{fields['metric']} {comparison} {threshold:g}",
        check=_checking(fields["metric"], COMPARISONS[comparison], text),
        threshold=threshold,
        clear=clear,
        for_s=float(fields.get("for_s", 0.0)),
        clear_s=float(fields.get("clear_s", CLEAR_S)),
        command=fields.get("command", "p2pnode peers"),
    )


def _check(fields: Mapping[str, Any], where: str) -> None:
    """Raises Usage for a field that is missing, unknown or of another kind."""
    known = {*_TEXTS, *_NUMBERS}
    missing = [name for name in ("name", "metric", "comparison", "threshold") if name not in fields]
    if missing:
        raise Usage(f"{where} has no {missing[0]}")
    for name, value in fields.items():
        if name not in known:
            raise Usage(f"{where} has {name!r}: there are {', '.join([*_TEXTS, *_NUMBERS])}")
        if name in _TEXTS and not (isinstance(value, str) and 0 < len(value) <= TEXT_MAX):
            raise Usage(f"{where}: {name} is {value!r}, it must be a text")
        if name in _NUMBERS and (type(value) not in (int, float) or not isfinite(value)):
            raise Usage(f"{where}: {name} is {value!r}, it must be a number")
        if name.endswith("_s") and not 0 <= value <= SECONDS_MAX:
            raise Usage(f"{where}: {name} is {value!r}, it must be 0 to {SECONDS_MAX:g} seconds")


def _checking(
    metric: str, holds: Callable[[float, float], bool], text: str
) -> Callable[[Facts, float], Iterator[Finding]]:
    def check(facts: Facts, limit: float) -> Iterator[Finding]:
        for figure in facts.figures(metric):
            if not holds(figure.value, limit):
                continue
            parts = figure.metric.split(".")
            job = parts[1] if parts[0] == "job" and parts[1] in facts.state.jobs else None
            said = {
                "peer": facts.name(figure.peer),
                "metric": figure.metric,
                "value": f"{figure.value:g}",
                "threshold": f"{limit:g}",
                "job": facts.state.jobs[job].name if job else "",
            }
            yield Finding(
                filled(text, said)[:TEXT_MAX],
                *(figure.metric, figure.value, figure.peer, job),
                place=figure.metric,
            )

    return check


def filled(text: str, said: Mapping[str, str]) -> str:
    """Not str.format: that would look into what it is given."""
    for name, value in said.items():
        text = text.replace(f"{{{name}}}", value)
    return text
