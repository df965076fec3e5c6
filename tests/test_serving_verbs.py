"""What people see of serving: a conversation, `verify`, status rows. With fakes."""

from collections.abc import Iterator
from typing import Any

import pytest

from p2p import view
from p2p.errors import P2PError, Usage
from p2p.generation import End, Generation
from p2p.proposals import PROPOSED
from p2p.replicated.service import Service
from p2p.services import view as services_view
from p2p.verbs import verify
from p2p.verbs.conversation import Conversation
from p2p.verbs.serve import models_text, replicas_range
from tests.peer_fakes import applied, replica_ready, running, served


class FakeAnswer:
    seed = 7
    end = End("stop", "tales", "name-a", "r1", 3, 2, 0.5, 1)

    def __init__(self, *pieces: str) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            if piece == "^C":
                raise KeyboardInterrupt
            yield piece


def state() -> Any:
    assign = {"type": "serve.assign", "service": "serve-1", "peers": {"a": 1}, "reason": "x"}
    return applied(running("a", "b"), served(), assign, replica_ready())


def talk(*pieces: str, source: str = "job:job-1") -> tuple[Conversation, list[str], list[Any]]:
    shown: list[str] = []
    asked: list[Any] = []
    told = services_view.models(state())
    told["models"][0]["source"] = source

    def generate(question: Any, **options: Any) -> FakeAnswer:
        asked.append(question)
        if question == "bad":
            raise P2PError("no")
        return FakeAnswer(*pieces)

    def ask(verb: str) -> dict[str, Any]:
        raft = view.RaftView("a", 1, "a", True, 1, 1, frozenset("a"), 0.0)
        return view.status(state(), raft, {}) if verb == "status" else told

    return Conversation(ask, generate, shown.append, None, {"max_tokens": 5}), shown, asked


def test_a_prompt_is_stopped_before_anybody_was_asked_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ask(verb: str) -> dict[str, Any]:
        raise KeyboardInterrupt

    shown: list[str] = []
    hears = Conversation(ask, lambda *_, **__: FakeAnswer("never"), shown.append, None, {})
    assert hears.hear("tell me")
    assert (shown, capsys.readouterr().out) == (["[stopped]"], "\n")


def test_a_conversation_prompts_and_knows_a_few_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hears, shown, asked = talk("Once ", "more")
    assert hears.hear("tell me")
    assert capsys.readouterr().out == "Once more\n"
    assert shown[-1].startswith("[tales on name-a, replica r1: 2 tokens in 0.50 s, stop, gone on")
    for command, expected in {
        "status": "name-a",
        "actors": "r1",
        "models": "job:job-1",
        "test": "tales: 'Once more'",
        "help": "Ctrl-C stops an answer",
        "model tales": "prompts go to tales",
        "model other": "no model 'other' is served",
        "bad": "p2pnode: no",
    }.items():
        assert hears.hear(command)
        assert expected in shown[-1], command
    assert hears.hear("/ status")
    assert hears.hear("   ")
    assert asked == ["tell me", "Hello", "bad", "status"]
    assert not hears.hear("quit")


def test_a_chat_model_is_told_what_was_said_before(capsys: pytest.CaptureFixture[str]) -> None:
    hears, shown, asked = talk("Yes", "^C", source="hf:/models/chat")
    hears.hear("one")
    hears.hear("two")
    roles = [message["role"] for message in asked[1]]
    assert roles == ["user", "assistant", "user"]
    assert asked[1][1]["content"] == "Yes"
    assert shown[-1] == "[stopped]"
    capsys.readouterr()


def checks(status: dict[str, Any], told: list[dict[str, Any]]) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {}
    for check in [*verify.of_status(status), *verify.of_models(told)]:
        assert check.text
        found.setdefault(check.name, []).append(check.ok)
    return found


def test_verify_says_what_is_well_and_what_is_not() -> None:
    raft = view.RaftView("a", 1, "a", True, 1, 1, frozenset({"a", "b"}), 0.0)
    status = view.status(state(), raft, {})
    told = services_view.models(state())["models"]
    well = checks(status, told)
    assert well == {name: [True] for name in ("peers", "quorum", "slots", "job", "model")}
    dead = {**status["peers"][1], "state": "dead"}
    status |= {
        "peers": [status["peers"][0], dead],
        "cluster": {**status["cluster"], "leader": None},
    }
    ill = checks(status, [{**told[0], "replicas": [], "state": "recovering", "reason": "gone"}])
    assert ill == {**well, "peers": [False], "quorum": [False], "model": [False]}


def test_verify_names_who_is_gone_and_what_helps() -> None:
    def said(*dead: str, voters: str = "ab") -> dict[str, str]:
        raft = view.RaftView("a", 1, "a", True, 1, 1, frozenset(voters), 0.0)
        status = view.status(state(), raft, {})
        peers = [{**p, "state": "dead"} if p["id"] in dead else p for p in status["peers"]]
        return {check.name: check.text for check in verify.of_status({**status, "peers": peers})}

    lost = said("a", "b")
    assert lost["peers"] == "name-a and name-b do not answer: start them again"
    assert lost["quorum"].endswith("0 of 2 answer: start the missing ones")
    assert said("b")["peers"] == "name-b does not answer: start it again"  # no majority is left
    learner = said("b", voters="a")
    assert learner["peers"].endswith("start it again, or `p2pnode remove name-b`")
    status = view.status(state(), view.RaftView("a", 1, "a", True, 1, 1, frozenset("ab"), 0.0), {})
    headless = {**status, "cluster": {**status["cluster"], "quorum": False}}
    texts = {check.name: check.text for check in verify.of_status(headless, frozenset({"b"}))}
    assert texts["peers"] == "name-b does not answer: start it again"
    assert texts["quorum"].endswith("1 of 2 answer: start the missing ones")


def test_a_serve_job_has_the_keys_of_every_job() -> None:
    train, serve = view.jobs(state(), {})
    assert list(train) == list(serve) == list(view.SUMMARY_KEYS)
    assert (serve["kind"], serve["members"], serve["state"]) == ("serve", ["a"], "running")
    assert isinstance(state().services["serve-1"], Service)
    rows = view.peers(state(), view.RaftView("a", 1, "a", True, 1, 1, frozenset("a"), 0.0), {})
    assert [(row["trainers"], row["replicas"]) for row in rows] == [(1, 1), (1, 0)]
    assert "tales" in models_text(services_view.models(state()))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, "seed is -1: it must be a whole number from 0 to 18446744073709551615"),
        ({"seed": 1 << 64}, "seed is 18446744073709551616"),
        ({"seed": "7"}, "seed is '7'"),
        ({"temperature": float("nan")}, "temperature is nan: it must be from 0 to 100"),
        ({"temperature": 10**400}, "temperature is 1000"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_k": 1 << 70}, "top_k is 1180591620717411303424"),
        ({"max_tokens": 0}, "max_tokens is 0: it must be a whole number from 1"),
        ({"stop": [""]}, "stop has 0 characters"),
        ({"stop": "a"}, "stop is not a list"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"wish": 1}, "generate has no option 'wish'"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_said_before_anybody_is_asked(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(Usage) as refused:
        Generation(None, {"text": "a"}, options)  # type: ignore[arg-type]
    assert str(refused.value).startswith(said)


def test_what_an_option_may_just_be() -> None:
    most = {"seed": (1 << 64) - 1, "top_p": 0.0, "top_k": 1 << 20, "temperature": 100}
    asked = Generation(None, {"text": ""}, {**most, "timeout_s": None})  # type: ignore[arg-type]
    assert asked.seed == (1 << 64) - 1
    assert Generation(None, {"text": "a"}, {}).seed >= 0  # type: ignore[arg-type]


def test_a_served_model_is_no_job_to_pause() -> None:
    for verb in ("pause", "checkpoint", "set"):
        with pytest.raises(Usage, match=r"tales is served, not trained: `p2pnode unserve tales`"):
            PROPOSED[verb](state(), {"job": "tales", "changes": {}})


def test_how_many_replicas() -> None:
    assert replicas_range("1:3") == {"replicas_min": 1, "replicas_max": 3}
    assert replicas_range("2") == {"replicas_min": 2, "replicas_max": 2}
    assert replicas_range(None) == {}
    with pytest.raises(Usage, match="MIN:MAX"):
        replicas_range("many")
