"""The parts of p2ptui that only compute: parsing, consequences, drawings, layouts, plain text."""

import random
from dataclasses import replace

import pytest

from p2p.errors import Usage
from tests.tui_fake import HASH, FakeCluster, event, job, peer
from tests.tui_fake_told import storm
from tui import bars, curve, ringmap
from tui.actions import PLANS, cannot_decide, propose
from tui.health import JOB_MARKS, PEER_MARKS, ROLE_MARKS, link_mark
from tui.keys import GROUPS, KEYS
from tui.lines import LINES, submission
from tui.panes.curves import axis_end
from tui.parsing import parse_detail, parse_events, parse_status
from tui.parsing_told import parse_alerts
from tui.plain import render
from tui.proposal import Menu, Proposal, Refusal, Selection
from tui.rows import JOB_COLUMNS, PEER_COLUMNS, peer_row
from tui.scene import Scene, cut_line, line_width, text_of
from tui.snapshot import BadAnswer, Link, Snapshot, shown_job
from tui.table import body, fit_columns
from tui.text import clean, fit, memory, number, short_count, width_of, wrap
from tui.told import Told

SUBMIT = next(key for key in KEYS if key.steers == "submit")
SIZES = [(80, 24), (100, 30), (120, 40), (200, 60)]


def live(cluster: FakeCluster) -> Snapshot:
    link = Link("live", cluster.address, received_s=0.0, received_at=1_790_000_000.0)
    return Snapshot(link, parse_status(cluster._status()), parse_events(cluster._events(0)))


def proposal(action: str, cluster: FakeCluster, selection: Selection) -> Proposal:
    made = propose(action, live(cluster), selection)
    assert isinstance(made, Proposal), made
    return made


# -- parsing ------------------------------------------------------------------------------------


def test_the_contract_is_read_whole() -> None:
    cluster = FakeCluster(3)
    status = parse_status(cluster._status())
    assert [told.name for told in status.peers] == ["node-1", "node-2", "node-3"]
    made = shown_job(status, None)
    assert made is not None
    assert (made.step, made.steps_total, made.accuracy, made.state_hash) == (240, 450, 0.9512, HASH)
    assert status.cluster.leader == "p01"
    detail = parse_detail("j01", cluster._job("j01"), cluster._history("j01"))
    assert (detail.repeated, detail.missing, len(detail.points)) == (0, 0, 120)
    assert detail.generations[1].start_step == 96


@pytest.mark.parametrize("answer", [{}, {"cluster": 3}, {"cluster": {}, "peers": []}])
def test_an_answer_that_is_no_status_is_said(answer: dict[str, object]) -> None:
    with pytest.raises(BadAnswer, match="version"):
        parse_status(answer)


def test_any_value_anywhere_reads_as_unknown_not_as_a_crash() -> None:
    junk: list[object] = [None, True, -1, 1e300, float("nan"), "x", "\x1b[31m", [], ["p"], {}, b"z"]
    for seed in range(300):
        rng = random.Random(seed)
        cluster = FakeCluster(3)
        rows = [cluster.peers[0], cluster.jobs[0], cluster.events[0]]
        answer = cluster._status()
        detail = cluster._job("j01")
        rows += [answer["cluster"], detail, detail["generations"][0]]
        row = rng.choice(rows)
        row[rng.choice(list(row))] = rng.choice(junk)
        snapshot = Snapshot(Link("live", received_s=0.0), parse_status(answer))
        parse_detail("j01", detail, {"points": rng.choice(junk)})
        try:
            assert "\x1b" not in render(Scene(snapshot=snapshot))
        except Exception as error:  # pragma: no cover
            raise AssertionError(f"seed {seed}") from error


def test_the_shown_job_is_the_chosen_or_the_newest_active() -> None:
    cluster = FakeCluster(3, jobs=3)
    cluster.jobs[2]["state"] = "finished"
    status = parse_status(cluster._status())
    shown = [shown_job(status, chosen) for chosen in (None, "j01", "gone")]
    assert [made and made.id for made in shown] == ["j02", "j01", "j02"]


def test_a_job_that_serves_hides_none_that_trained_and_is_not_paused() -> None:
    cluster = FakeCluster(3, jobs=2)
    cluster.jobs[0].update(state="finished", members=[])
    cluster.jobs[1].update(kind="serve")
    status = parse_status(cluster._status())
    shown = [shown_job(status, chosen) for chosen in (None, "j02")]
    assert [made and made.id for made in shown] == ["j01", "j02"]
    for action in ("pause", "cancel", "restore", "codec"):
        made = propose(action, live(cluster), Selection(None, "j02"))
        assert isinstance(made, Refusal)
        assert "digits-2 serves" in made.reason


def test_a_job_that_waits_hides_none_that_trains() -> None:
    cluster = FakeCluster(3, jobs=2)
    cluster.jobs[1].update(state="queued", members=[])
    made = shown_job(parse_status(cluster._status()), None)
    assert made is not None
    assert made.id == "j01"


# -- what a key would do ------------------------------------------------------------------------


def test_killing_one_of_three_keeps_the_quorum_and_says_what_goes_on() -> None:
    made = proposal("kill", FakeCluster(3), Selection("p02"))
    assert (made.verb, made.args) == ("fault", {"kind": "kill", "peer": "p02"})
    assert made.ask
    assert not made.danger
    assert "2 trainers go on from step 240" in " ".join(made.lines)
    assert made.cli == "p2pnode fault kill node-2"


def test_killing_a_second_of_three_would_lose_the_quorum() -> None:
    cluster = FakeCluster(3)
    cluster.peers[2]["state"] = "dead"
    made = proposal("kill", cluster, Selection("p01"))
    assert "QUORUM WOULD BE LOST: 1 of 3 voters left, 2 needed" in made.danger[0]
    assert any("nobody can take its place" in line for line in made.lines)
    assert any("moves to another peer" in line for line in made.lines)


def test_removing_a_dead_voter_makes_the_quorum_easier() -> None:
    cluster = FakeCluster(3)
    cluster.peers[2]["state"] = "dead"
    assert not proposal("remove", cluster, Selection("p03")).danger
    # Two voters, one dead: there is no quorum to decide it with, whatever the status says.
    assert proposal("remove", cluster, Selection("p02")).danger


def test_a_learner_is_no_loss_to_the_quorum() -> None:
    cluster = FakeCluster(7)
    for told in cluster.peers[3:5]:
        told["state"] = "dead"
    assert not proposal("kill", cluster, Selection("p07")).danger
    assert proposal("kill", cluster, Selection("p02")).danger


@pytest.mark.parametrize(
    ("action", "selection", "reason"),
    [
        ("transfer", Selection("p01"), "leads already"),
        ("transfer", Selection("p06"), "learner"),
        ("transfer", Selection("p02"), "suspect"),
        ("kill", Selection("p03"), "not running"),
        ("kill", Selection(None), "no peer is selected"),
        ("cancel", Selection(None, "j01"), "finished"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    action: str, selection: Selection, reason: str
) -> None:
    cluster = FakeCluster(6)
    cluster.peers[1]["state"], cluster.peers[2]["state"] = "suspect", "dead"
    cluster.jobs[0]["state"] = "finished"
    made = propose(action, live(cluster), selection)
    assert isinstance(made, Refusal)
    assert reason in made.reason


@pytest.mark.parametrize("action", PLANS)
def test_nothing_is_proposed_read_only_offline_or_without_quorum(action: str) -> None:
    cluster = FakeCluster(3)
    chosen = Selection("p02", "j01")
    assert isinstance(propose(action, live(cluster), chosen, read_only=True), Refusal)
    gone = Snapshot(Link("lost"), live(cluster).status)
    assert isinstance(propose(action, gone, chosen), Refusal)
    cluster.quorum = False
    made = propose(action, live(cluster), chosen)
    assert isinstance(made, Refusal) == (action not in ("kill", "fault"))


def test_nothing_is_submitted_without_a_quorum_and_the_key_is_grey() -> None:
    cluster = FakeCluster(3)
    assert cannot_decide("submit", live(cluster), False, False) is None
    assert bars.is_usable(SUBMIT, Scene(snapshot=live(cluster)))
    cluster.quorum = False
    told = cannot_decide("submit", live(cluster), False, False)
    assert told is not None
    assert "no job can be submitted" in told.reason
    assert not bars.is_usable(SUBMIT, Scene(snapshot=live(cluster)))


def test_a_codec_that_the_strategy_cannot_use_is_not_offered() -> None:
    cluster = FakeCluster(3)
    cluster.jobs[0]["strategy"] = "robust"
    menu = propose("codec", live(cluster), Selection(None, "j01"))
    assert isinstance(menu, Menu)
    assert not [one.shown for one in menu.choices if isinstance(one.made, Proposal)]
    cluster.jobs[0].update(strategy="ring", codec="int8")
    menu = propose("strategy", live(cluster), Selection(None, "j01"))
    assert isinstance(menu, Menu)
    made = {one.shown: one.made for one in menu.choices}
    assert isinstance(made["local-sgd"], Proposal)
    assert isinstance(made["robust"], Refusal)
    assert "its codecs are int32" in made["robust"].reason


def test_the_gravest_alert_is_noted_where_none_was_chosen() -> None:
    told = parse_alerts({"alerts": storm(3)})
    snapshot = replace(live(FakeCluster(3)), told=Told(alerts=told))
    made = propose("note", snapshot, Selection())
    assert isinstance(made, Proposal)
    [gravest] = [one for one in told if one.severity == "critical"]
    assert made.args == {"alert": gravest.id}
    assert gravest.text in made.done


def test_the_last_peer_is_stopped_not_removed() -> None:
    made = propose("remove", live(FakeCluster(1)), Selection("p01"))
    assert isinstance(made, Refusal)


def test_a_paused_job_is_resumed() -> None:
    cluster = FakeCluster(3)
    assert proposal("pause", cluster, Selection(None, "j01")).verb == "pause"
    cluster.jobs[0]["state"] = "paused"
    made = proposal("pause", cluster, Selection(None, "j01"))
    assert (made.verb, made.cli, made.ask) == ("resume", "p2pnode resume j01", False)


def test_names_shared_by_peers_are_told_apart_on_the_command_line() -> None:
    cluster = FakeCluster(3)
    cluster.peers[1]["name"] = cluster.peers[2]["name"] = "a b; rm"
    assert proposal("remove", cluster, Selection("p02")).cli == "p2pnode remove p02"
    cluster.peers[2]["name"] = "other"
    assert proposal("remove", cluster, Selection("p02")).cli == "p2pnode remove 'a b; rm'"


def test_the_submit_line_is_read_as_the_command_line_reads_it() -> None:
    made = submission("digits --epochs 2 --peers 1:3 --set a=b --name first", "10.0.0.1:7700")
    assert made.verb == "submit"
    expected = {"task": "digits", "epochs": 2, "peers_min": 1, "peers_max": 3, "name": "first"}
    assert expected.items() <= made.args.items()
    assert made.cli.endswith("submit digits --epochs 2 --peers 1:3 --set a=b --name first")


@pytest.mark.parametrize("line", ["", "digits --epochs x", "digits --what", "'", "none.py:Task"])
def test_a_wrong_submit_line_is_one_sentence(line: str) -> None:
    with pytest.raises(Usage, match=r"\w+"):
        submission(line, "10.0.0.1:7700")


# -- text and tables ----------------------------------------------------------------------------


def test_nothing_a_peer_sends_can_steer_the_terminal() -> None:
    assert clean("a\x1b[2J\x07b\n\u202ec\ud800") == "a·[2J·b ·c·"


@pytest.mark.parametrize("text", ["", "node", "日本語のノード", "a" * 50, "é́x"])
@pytest.mark.parametrize("width", [1, 2, 5, 8, 20])
def test_fitted_text_has_exactly_the_width(text: str, width: int) -> None:
    assert width_of(fit(text, width)) == width
    assert all(width_of(line) <= max(width, 2) for line in wrap(text, max(2, width)))
    assert line_width(cut_line([(text, "text"), ("–", "dim")], width)) == width


def test_numbers_stay_short_and_say_what_they_are() -> None:
    assert [memory(size) for size in (0, 900, 36_000_000, 1_500_000_000)] == [
        "–",
        "900B",
        "34M",
        "1.4G",
    ]
    assert [number(value) for value in (None, 0.0, 0.24134, 123.456, 1e-7)] == [
        "–",
        "0.0000",
        "0.2413",
        "123.46",
        "1.00e-07",
    ]
    assert [short_count(value) for value in (12, 5210, 999_999, 2.5e6)] == [
        "12",
        "5.2k",
        "1000k",
        "2.5M",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 78, 100, 198])
def test_columns_fit_and_keep_what_matters(width: int) -> None:
    for columns in (PEER_COLUMNS, JOB_COLUMNS):
        fitted = fit_columns(columns, width)
        assert sum(size for _, size in fitted) + 2 * (len(fitted) - 1) <= max(width, 40)
        assert fitted[0][0].key == "state"
    scene = Scene(snapshot=live(FakeCluster(1)))
    assert scene.status is not None
    fitted = fit_columns(PEER_COLUMNS, 78)
    assert line_width(body(fitted, peer_row(scene.status.peers[0], scene))) <= 78


def test_every_state_of_the_contract_has_its_own_glyph_and_word() -> None:
    for marks in (PEER_MARKS, JOB_MARKS, ROLE_MARKS):
        assert len({(mark.word) for mark in marks.values()}) == len(marks)
        assert all(mark.plain.isascii() for mark in marks.values())
    assert len({mark.glyph for mark in PEER_MARKS.values()}) == len(PEER_MARKS)


# -- drawings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("peers", [0, 1, 2, 3, 4, 5, 6, 7, 12, 14, 40])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_ring_names_every_peer_and_its_state(peers: int, ascii_only: bool) -> None:
    cluster = FakeCluster(peers)
    if peers > 2:
        cluster.peers[2]["state"] = "dead"
    status = parse_status(cluster._status())
    for width, height in ((33, 11), (42, 15), (58, 20)):
        grid = ringmap.draw(status, shown_job(status, None), None, width, height, ascii_only)
        rows = grid.text()
        assert len(rows) == height
        drawn = "\n".join(rows)
        assert all(width_of(row) == width for row in rows)
        if peers <= 12:
            assert [told.name for told in status.peers if told.name not in drawn] == []
        if 2 < peers <= 6 and not ascii_only:  # what is in the middle takes no label's place
            assert drawn.count("●") == peers - 1
        if peers > 2:
            assert ("x " if ascii_only else "✖ ") in drawn
        assert not ascii_only or drawn.isascii()


def test_what_flows_is_beside_the_arrow_it_leaves_on() -> None:
    status = parse_status(FakeCluster(3)._status())
    job = shown_job(status, None)
    assert job is not None
    told = {"p01": {"job.j01.wire_bytes_per_s": 3e6}, "p02": {}, "p09": {"job.j01.step": 1.0}}
    flows = ringmap.flows(job, told)
    assert flows == {"p01": 3e6}
    rows = ringmap.draw(status, job, None, 42, 15, flows=flows).text()
    assert [row for row in rows if "M/s" in row] == [row for row in rows if "▼ 2.9M/s" in row]


def test_a_curve_keeps_its_spikes_and_stays_inside() -> None:
    points = [(float(x), 1.0) for x in range(5000)]
    points[2500] = (2500.0, 9.0)
    up = curve.span(y for _, y in points)
    rows = curve.draw(points, curve.Span(0, 5000), up, 40, 8).rows()
    assert rows[0].strip()
    assert [len(row) for row in rows] == [40] * 8
    for odd in ([], [(1.0, float("nan"))], [(1.0, 2.0)], [(0.0, 1e300), (1.0, -1e300)]):
        across = curve.span(x for x, _ in odd)
        curve.draw(odd, across, curve.span(y for _, y in odd), 10, 3)
    assert all(row.isascii() for row in curve.draw(points, across, up, 9, 3).rows(ascii_only=True))


@pytest.mark.parametrize(
    ("last", "total", "end"), [(0, 1000, 1.953), (240, 450, 450), (100, 1000, 125), (90, None, 90)]
)
def test_a_young_curve_fills_at_least_half_of_its_axis(
    last: float, total: int | None, end: float
) -> None:
    assert axis_end(last, total) == pytest.approx(end, abs=0.001)


def test_plain_text_says_all_of_it_and_nothing_escapes() -> None:
    cluster = FakeCluster(3)
    cluster.tell("node-3 does not answer\x1b[2J", "error")
    shown = render(Scene(snapshot=live(cluster)))
    for word in ("lab", "leader node-1", "quorum 3/3", "node-2", "running", "240/450", "0.2413"):
        assert word in shown
    assert "\x1b" not in shown
    assert "✖ node-3 does not answer·[2J" in shown
    assert render(Scene(snapshot=live(FakeCluster(0, 0)), ascii_only=True)).endswith("cluster")


# -- keys, banner, freshness --------------------------------------------------------------------


def test_the_key_table_is_sound() -> None:
    names = [name for key in KEYS for name in key.keys.split(",")]
    assert len(names) == len(set(names))
    assert {key.group for key in KEYS} == set(GROUPS)
    assert all(key.help for key in KEYS if key.shown)
    assert all(key.steers in {*PLANS, *LINES, None} for key in KEYS)


@pytest.mark.parametrize(
    ("age_s", "state", "word"),
    [
        (None, "connecting", "connecting"),
        (0.5, "live", "live"),
        (3.5, "live", "stale"),
        (0.5, "lost", "stale"),
        (11.0, "lost", "offline"),
    ],
)
def test_freshness_is_said(age_s: float | None, state: str, word: str) -> None:
    link = Link(state, received_s=None if age_s is None else 0.0)  # type: ignore[arg-type]
    assert link_mark(link, age_s, 1.0).word == word


def test_the_banner_says_what_to_expect() -> None:
    status = live(FakeCluster(3)).status
    link = Link("lost", "10.0.0.1:7700", "no peer answers", 4, 8.0, 0.0, 1_790_000_000.0)
    told = bars.banner(Scene(snapshot=Snapshot(link, status)), 120)
    assert told is not None
    for part in ("reconnecting to 10.0.0.1:7700", "attempt 4", "next in 8 s", "data from"):
        assert part in told
    cluster = FakeCluster(3)
    cluster.quorum = False
    cluster.peers[1]["state"] = cluster.peers[2]["state"] = "dead"
    lost = bars.banner(Scene(snapshot=live(cluster)), 120)
    assert lost is not None
    assert "NO QUORUM: 1 of 3 voters alive, 2 needed" in lost
    assert bars.banner(Scene(snapshot=live(FakeCluster(3))), 120) is None


@pytest.mark.parametrize("width", [80, 120, 200])
def test_header_and_footer_are_one_line(width: int) -> None:
    cluster = FakeCluster(3)
    cluster.peers[0]["name"] = "a-very-long-host-name.example.org" * 2
    scene = Scene(snapshot=live(cluster), read_only=True, frozen=True, now_s=20.0)
    assert line_width(bars.header(scene, width)) == width
    assert "offline" in text_of(bars.header(scene, width))
    assert line_width(bars.footer(scene, width, 24)) <= width + 1


def test_events_and_peers_made_by_hand_are_what_the_contract_says() -> None:
    assert set(peer(1)) >= {"id", "name", "address", "role", "state", "slots", "rss"}
    assert set(job()) >= {"id", "steps_total", "metrics", "state_hash"}
    assert set(event(1, "x")) >= {"index", "at", "kind", "severity", "text", "peer", "job"}
