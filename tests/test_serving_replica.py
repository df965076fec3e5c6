"""A real replica over its socketpair: textgpt's weights in, the same answers whatever happens."""

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from p2p.errors import P2PError
from p2p.serving.memory import TooLarge, check_weights, streams_that_fit
from p2p.serving.messages import Done, Failed, Generate, Load, News, Pulse, Ready, Sampling, Tokens
from p2p.serving.models.loading import NoFirstValues, load
from p2p.serving.protocol import news
from p2p.tasks.textgpt import Gpt
from p2p.training.stream import Decoder, encode

TEXTGPT = {"width": 32, "layers": 2, "heads": 2, "context": 192}
WITHIN_S = 60.0


def job(task: str = "textgpt", **options: int) -> dict[str, Any]:
    told = {"id": "job-1", "task": task, "task_class": task}
    return {**told, "options": {name: str(value) for name, value in options.items()}}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Two parts of a checkpoint, with an optimizer's moments among them."""
    torch.manual_seed(0)
    tensors = {n: t.clone() for n, t in Gpt(*TEXTGPT.values(), 0.0).state_dict().items()}
    tensors["optimizer.head.weight.exp_avg"] = torch.zeros(3)
    names = sorted(tensors)
    folder = tmp_path_factory.mktemp("weights")
    parts = []
    for number in range(2):
        path = folder / f"part-{number}.safetensors"
        save_file({name: tensors[name] for name in names[number::2]}, path)
        parts.append(str(path))
    return tuple(parts)


class Played:
    """The peer of one replica."""

    def __init__(self, order: "Load | Unclear") -> None:
        self.line, theirs = socket.socketpair()
        self.line.settimeout(WITHIN_S)
        self._decoder, self._heard = Decoder(), list[News]()
        with theirs:
            self.pid = os.fork()
            if self.pid == 0:
                self._become(theirs)
        self.say(order)

    def _become(self, theirs: socket.socket) -> None:
        code = 70
        try:
            self.line.close()
            from p2p.serving.replica import main

            code = main(theirs)
        finally:
            os._exit(code)

    def say(self, order: Any) -> None:
        self.line.sendall(encode(order.to_wire()))

    def hear(self) -> News:
        while not self._heard:
            data = self.line.recv(1 << 16)
            assert data, "the replica ended"
            heard = map(news, self._decoder.feed(data))
            self._heard += [each for each in heard if not isinstance(each, Pulse)]
        return self._heard.pop(0)

    def answers(self, requests: list[str]) -> dict[str, tuple[tuple[int, ...], str, Done]]:
        """Ids and text of each, until all are done."""
        ids: dict[str, tuple[int, ...]] = {}
        text: dict[str, str] = {}
        done: dict[str, Done] = {}
        while set(requests) - done.keys():
            heard = self.hear()
            if isinstance(heard, Tokens):
                for s in heard.streams:
                    ids[s.request] = ids.get(s.request, ()) + s.ids
                    text[s.request] = text.get(s.request, "") + s.text
            elif isinstance(heard, Done):
                assert heard.request not in done
                done[heard.request] = heard
        return {r: (ids.get(r, ()), text.get(r, "") + done[r].text, done[r]) for r in requests}

    def end(self) -> int:
        self.line.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture(scope="module")
def replica(weights: tuple[str, ...]) -> Iterator[Played]:
    played = Played(Load("tales", job=job(**TEXTGPT), weights=weights, streams=4, waiting=6))
    ready = played.hear()
    assert isinstance(ready, Ready)
    assert (ready.name, ready.context, ready.streams) == ("tales", 192, 4)
    assert ready.bytes == 4 * ready.parameters
    yield played
    assert played.end() == 0


ASKED = [
    Generate("greedy", text="def ", max_tokens=20),
    Generate("drawn", text="def ", max_tokens=20, sampling=Sampling(1.0, seed=7)),
    Generate("other seed", text="def ", max_tokens=20, sampling=Sampling(1.0, seed=8)),
    Generate("few", text="x", max_tokens=30, sampling=Sampling(0.8, 40, 0.9, 1)),
    # In several steps, of which all but the last want nothing.
    Generate("long prompt", text="import numpy " * 11, max_tokens=12, sampling=Sampling(1.0)),
    Generate("ids", tokens=(1, 2, 250), max_tokens=9, sampling=Sampling(1.0)),
    Generate(
        "chat", messages=({"role": "user", "content": "hé"},), max_tokens=9, sampling=Sampling(2.0)
    ),
]


@pytest.mark.processes
def test_an_answer_depends_on_its_request_alone(replica: Played) -> None:
    """One after the other, all at once, and gone on with from any ids that were sent."""
    alone = {}
    for asked in ASKED:
        replica.say(asked)
        alone |= replica.answers([asked.request])
        ids, text, done = alone[asked.request]
        assert (done.reason, done.completion_tokens) == ("length", asked.max_tokens)
        assert len(ids) == asked.max_tokens
        assert text == bytes(ids).decode(errors="replace")
    assert len({ids for ids, _, _ in alone.values()}) == len(ASKED)
    for asked in ASKED:
        replica.say(asked)
    assert replica.answers([asked.request for asked in ASKED]) == alone
    for asked in ASKED:
        ids, _, done = alone[asked.request]
        for cut in (0, 1, len(ids) // 2, len(ids)):
            fields = {name: getattr(asked, name) for name in asked.__slots__}
            replica.say(Generate(**{**fields, "sent": ids[:cut]}))
            rest, text, again = replica.answers([asked.request])[asked.request]
            assert rest == ids[cut:]
            assert (again.reason, again.completion_tokens) == (done.reason, len(ids))
            shown = bytes(ids).decode(errors="replace")
            assert shown.endswith(text)


@pytest.mark.processes
def test_stops_limits_and_nonsense_have_clear_ends(replica: Played) -> None:
    replica.say(ASKED[0])
    _, text, _ = replica.answers(["greedy"])["greedy"]
    stop = text[5:7]
    replica.say(Generate("stopped", text="def ", max_tokens=20, stop=(stop,)))
    _, until, done = replica.answers(["stopped"])["stopped"]
    assert (until, done.reason) == (text[: text.index(stop)], "stop")
    wrong = [
        *(Generate("empty", text=""), Generate("enormous", text="a" * 100_000)),
        Generate("no token", tokens=(256,)),
    ]
    for asked in wrong:
        replica.say(asked)
    replica.line.sendall(encode({"kind": "generate", "request": "odd", "text": 5}))
    replica.line.sendall(encode({"kind": "dance"}))
    for done in (
        told[2] for told in replica.answers(["empty", "enormous", "no token", "odd"]).values()
    ):
        assert done.reason == "error"
        assert done.error
    queued = [Generate(f"q{n}", text="a", max_tokens=40) for n in range(30)]
    frames = b"".join(encode(asked.to_wire()) for asked in queued)
    replica.line.sendall(frames)
    answers = replica.answers([asked.request for asked in queued])
    busy = [done for _, _, done in answers.values() if done.retry_s]
    assert len(busy) == 30 - 4 - 6
    assert all(str(done.error).startswith("busy") for done in busy)


def ended(order: Load) -> str:
    """What the replica said before it ended."""
    played = Played(order)
    heard = played.hear()
    assert isinstance(heard, Failed)
    assert played.end() == 1
    return heard.error


class Unclear:
    """An order that is answered with a refusal."""

    def to_wire(self) -> dict[str, Any]:
        return {"kind": "generate", "request": "r"}


def test_a_peer_that_goes_with_news_unread_is_an_end_like_any_other() -> None:
    played = Played(Unclear())
    assert select.select([played.line], [], [], 60.0)[0]
    assert played.end() == 0


@pytest.mark.processes
def test_what_cannot_be_served_says_why(weights: tuple[str, ...], tmp_path: Path) -> None:
    assert "no `serve`" in ended(Load("d", job=job("digits"), weights=weights))


def test_weights_must_be_whole_readable_and_small(weights: tuple[str, ...], tmp_path: Path) -> None:
    model = job(**TEXTGPT)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"12345678" * 9)
    for order, expected in [
        (Load("d", job=model, weights=weights[:1]), "not whole"),
        (Load("d", job=model, weights=(*weights, str(tmp_path / "gone"))), "cannot read"),
        (Load("d", job=model, weights=(str(damaged),)), "has no weights"),
        (Load("d", job=job(**{**TEXTGPT, "width": 34}), weights=weights), "another model"),
        (Load("d", job=model, weights=weights, memory_bytes=1000), "are free"),
    ]:
        with pytest.raises(P2PError, match=expected):
            load(order)


def test_only_parameters_are_left_unfilled() -> None:
    """A buffer that no checkpoint has keeps the numbers that the model gives it."""
    with NoFirstValues():
        parameter, buffer = torch.nn.Parameter(torch.zeros(3)), torch.zeros(3).normal_()
        torch.nn.init.normal_(parameter)
        torch.nn.init.kaiming_uniform_(tensor=torch.nn.Linear(2, 2).weight)
        parameter.data.add_(1)
    assert parameter.tolist() == [1, 1, 1]
    assert bool(buffer.any())


def test_memory_is_asked_for_beforehand() -> None:
    check_weights("m", 100, 300)
    with pytest.raises(TooLarge, match="m needs 2,861 MiB to be loaded, and 10 MiB are free"):
        check_weights("m", 10**9, 10 << 20)
    assert [streams_that_fit("m", 10, 16, free) for free in (10, 35, 1000)] == [1, 3, 16]
    with pytest.raises(TooLarge, match="one answer"):
        streams_that_fit("m", 10, 16, 9)
