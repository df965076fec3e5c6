"""A user's own rules: what they find, and one sentence for each thing that may be wrong."""

from pathlib import Path

import pytest

from p2p.errors import Usage
from p2p.watch import rules_file
from p2p.watch.facts import Facts
from p2p.watch.rules import BUILT_IN
from p2p.watch.user_rules import with_users
from tests.peer_fakes import running
from tests.watch_facts import facts

RULE = """
[[rule]]
name = "memory"
metric = "system.memory_bytes"
comparison = ">"
threshold = 60e9
"""


def found(text: str, seen: Facts) -> list[str]:
    (rule,) = with_users((), text, "f")
    return [each.text for each in rule.check(seen, rule.threshold)]


@pytest.mark.parametrize(
    ("comparison", "value", "holds"),
    [
        *((">", 61, True), (">", 60, False), (">=", 60, True), (">=", 59, False)),
        *(("<", 59, True), ("<", 60, False), ("<=", 60, True), ("<=", 61, False)),
    ],
)
def test_comparisons(comparison: str, value: float, holds: bool) -> None:
    text = RULE.replace("60e9", "60").replace('">"', f'"{comparison}"')
    seen = facts(latest={"b": {"system.memory_bytes": float(value)}})
    assert bool(found(text, seen)) is holds


def test_the_text_says_what_was_found() -> None:
    text = RULE + 'text = "{peer}: {metric} {value} > {threshold} {unknown} {peer.__class__}"'
    seen = facts(latest={"b": {"system.memory_bytes": 7e10}})
    said = "name-b: system.memory_bytes 7e+10 > 6e+10 {unknown} {peer.__class__}"
    assert found(text, seen) == [said]


def test_a_pattern_finds_each_and_a_job_by_its_metric() -> None:
    text = RULE.replace("system.memory_bytes", "job.*.metric.acc*").replace(">", "<")
    (rule,) = with_users((), text, "f")
    values = {"job.job-1.metric.accuracy": 0.2, "job.job-9.metric.accuracy": 0.1}
    seen = facts(running("a", "b"), latest={"b": values})
    told = list(rule.check(seen, rule.threshold))
    assert [(each.peer, each.job) for each in told] == [("b", "job-1"), ("b", None)]
    assert len({rule.id_of(each) for each in told}) == 2
    assert rule.part == "training"


def test_defaults_and_all_fields() -> None:
    (plain,) = with_users((), RULE, "f")
    assert (plain.severity, plain.for_s, plain.clear, plain.clear_s) == ("warning", 0.0, 6e10, 5.0)
    text = RULE + 'clear = 5e10\nfor_s = 3\nclear_s = 7.5\nseverity = "critical"\ncommand = "c"'
    (full,) = with_users((), text, "f")
    assert (full.severity, full.for_s, full.clear, full.clear_s) == ("critical", 3.0, 5e10, 7.5)
    assert full.command == "c"


def test_built_in_ones_can_be_off() -> None:
    rules = with_users(BUILT_IN, 'off = ["gpu-hot", "straggler"]' + RULE, "f")
    names = {rule.name for rule in rules}
    assert names == {rule.name for rule in BUILT_IN} - {"gpu-hot", "straggler"} | {"memory"}


WRONG = [
    ("[[rule", "cannot read f"),
    ("rules = 1", "'rules': there are `off`"),
    ("off = 1", "`off` is a list"),
    ('off = ["x"]', "turns off 'x': there are no-quorum"),
    ("rule = [1]", "rule 1 is no table"),
    ('[[rule]]\nname = "x"', "rule 1 has no metric"),
    (RULE + "colour = 1", "rule 1 has 'colour'"),
    (RULE + "for_s = -1", "for_s is -1, it must be 0 to"),
    (RULE + "for_s = true", "for_s is True, it must be a number"),
    (RULE + "clear = nan", "clear is nan, it must be a number"),
    (RULE + "clear = 7e10", "clear = 7e+10 is beyond threshold = 6e+10"),
    (RULE + 'severity = "bad"', "severity is 'bad', there are info, warning, critical"),
    (RULE + "text = 1", "text is 1, it must be a text"),
    (RULE.replace('">"', '"=="'), "comparison is '==', there are > >= < <="),
    (RULE.replace("60e9", '"60e9"'), "threshold is '60e9', it must be a number"),
    (RULE.replace('"memory"', '"no-quorum"'), "there is a rule 'no-quorum' already"),
    (RULE + RULE, "rule 2: there is a rule 'memory' already"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(Usage, match=r"^(f|cannot read f)") as refused:
        with_users(BUILT_IN, text, "f")
    assert said in str(refused.value)


def test_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert rules_file.read(None) == BUILT_IN
    file = tmp_path / "p2pnode" / "alerts.toml"
    file.parent.mkdir()
    file.write_text(RULE)
    assert rules_file.read(None)[-1].name == "memory"
    assert len(rules_file.read(str(file))) == len(BUILT_IN) + 1
    with pytest.raises(Usage, match="there is no file"):
        rules_file.read(str(tmp_path / "none"))
    file.write_bytes(b"\xff")
    with pytest.raises(Usage, match="cannot read"):
        rules_file.read(None)
