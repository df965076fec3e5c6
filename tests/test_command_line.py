"""What is typed and what is printed: flags written out, one sentence, tables that fit."""

import os
import sys

import pytest

from p2p.cli import VERBS, build_parser, main
from p2p.verbs.verb import Verb, table

HEADINGS = ["JOB", "STATE", "WHY"]
ROWS = [["job-1", "running", ""], ["job-20", "queued", "waits for 2 peers with a free slot, 0 now"]]


def test_a_table_that_fits_has_a_line_per_row(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = [
        "JOB     STATE    WHY",
        "job-1   running",
        "job-20  queued   waits for 2 peers with a free slot, 0 now",
    ]
    for columns in ("0", "80"):  # 0 = no terminal
        monkeypatch.setenv("COLUMNS", columns)
        assert table(HEADINGS, ROWS).splitlines() == wide


def test_in_a_narrow_terminal_the_last_cell_goes_below(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert table(HEADINGS, ROWS).splitlines() == [
        "JOB     STATE",
        "job-1   running",
        "job-20  queued",
        "    waits for 2 peers with a free slot,",
        "    0 now",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bogus"], "p2pnode: argument VERB: invalid choice: 'bogus'"),
        (["--slots", "x"], "p2pnode: argument --slots: invalid int value: 'x'; see"),
        (["status", "--jso"], "p2pnode: unrecognized arguments: --jso; see `p2pnode --help`"),
        (["job"], "p2pnode job: the following arguments are required: JOB; see `p2pnode job"),
        (["data", "preview"], "p2pnode data preview: the following arguments are required: NAME"),
        (["export", "events", "--names", "x"], "p2pnode: unrecognized arguments: --names x; see"),
        (["export", "tensorboard", "j"], "the following arguments are required: -o/--output"),
        (["restore", "j", "--steps", "1", "--epochs", "1"], "--epochs: not allowed with argument"),
        (["--data-dir", "x", "recover"], "--data-dir before a verb is for a peer that shall run"),
        (["--name", "a", "submit", "digits"], "--name before a verb is for a peer that shall run"),
    ],
)
def test_a_wrong_flag_is_one_sentence_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(arguments)
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert said in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)


def test_flags_of_every_verb_may_stand_before_it() -> None:
    parse = build_parser().parse_args
    before = parse(["--json", "--token-file", "t", "data", "list"])
    assert (before.json, before.token_file) == (True, "t")
    assert not parse(["status"]).json
    assert parse(["--slots", "3", "config"]).slots == 3


@pytest.mark.parametrize("text", ["", ",", "host", "host:", ":7700", "host:0", "a:1,b", "a:65536"])
@pytest.mark.parametrize("given", [["status", "--peer"], ["--join"]], ids=["peer", "join"])
def test_what_is_no_address_of_a_peer_is_said_at_once(
    given: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not looked up for seconds; and an empty --join must not found a cluster of its own."""
    assert main([*given, text]) == 2
    told = capsys.readouterr()
    assert "HOST:PORT" in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)


@pytest.mark.parametrize(("file", "code", "said"), [("/dev/full", 1, "No space left"), ("", 0, "")])
def test_where_nothing_can_be_printed(
    file: str,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A full disk is one sentence; who has read enough is no error."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(file or writer, "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["config"]) == code
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_help(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([verb.name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: p2pnode {verb.name}")
