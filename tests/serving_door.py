"""The HTTP door as people use it: OpenAI's own client, and the curl commands of docs/serving.md."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import psutil

from p2p.local_cluster import LocalCluster, LocalPeer
from tests.serving_cluster import ASKED

SERVING = Path(__file__).parent.parent / "docs" / "serving.md"
TOKEN = "a-secret-of-the-test"
WITHIN_S = 90.0


def opened_tried_and_closed(cluster: LocalCluster, expected: str) -> None:
    """At a peer that only coordinates: its door's answers come from the others' replicas."""
    file = cluster.folder / "door.token"
    file.write_text(TOKEN + "\n")
    door = cluster.start("--slots", "0", "--http", "0", "--http-token-file", str(file))
    tried(door, expected)
    curl_says_what_is_documented(door)
    child = process_of(door)
    assert door.terminate() == 0
    assert psutil.wait_procs([child], WITHIN_S)[1] == []


def client(door: LocalPeer, token: str = TOKEN) -> Any:
    import openai  # a second, and nobody else needs it

    straight = openai.DefaultHttpxClient(trust_env=False)
    url = door.told["http"]
    return openai.OpenAI(
        base_url=url, api_key=token, http_client=straight, max_retries=0, timeout=WITHIN_S
    )


def tried(door: LocalPeer, expected: str) -> None:
    """`expected`: what "def main" gives with ASKED, asked without a door."""
    import openai

    with client(door) as asking:
        assert [model.id for model in asking.models.list()] == ["tales"]
        given = {"model": "tales", "prompt": "def main", **ASKED}
        whole = asking.completions.create(**given)
        assert whole.choices[0].text == expected
        assert whole.choices[0].finish_reason == "length"
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (8, 450)
        ids = [ord(character) for character in "def main"]
        options = {"prompt": ids, "stream": True, "stream_options": {"include_usage": True}}
        *chunks, last = asking.completions.create(**{**given, **options})
        assert "".join(chunk.choices[0].text for chunk in chunks) == expected
        assert last.usage.total_tokens == 458

        chat = {"model": "tales", "messages": [{"role": "user", "content": "Hello"}], "seed": 5}
        said = asking.chat.completions.create(**chat, max_completion_tokens=20, user="ann")
        pieces = asking.chat.completions.create(**chat, max_tokens=20, stream=True)
        deltas = [chunk.choices[0].delta.content or "" for chunk in pieces]
        assert "".join(deltas) == said.choices[0].message.content

        for error, fields, told in (
            (openai.NotFoundError, {"model": "other"}, "no model 'other' is served"),
            (openai.BadRequestError, {"prompt": "x" * 600}, "512"),
            (openai.BadRequestError, {"n": 2}, "n is 2"),
        ):
            assert told in str(_refused(asking, error, {**given, **fields}))
    with client(door, "wrong") as stranger:
        wrong = _refused(stranger, openai.AuthenticationError, given)
        assert wrong.body["code"] == "invalid_api_key"


def _refused(asking: Any, kind: type[Exception], fields: dict[str, Any]) -> Any:
    try:
        asking.completions.create(**fields)
    except kind as error:
        return error
    raise AssertionError(f"{fields} was answered")


def process_of(door: LocalPeer) -> psutil.Process:
    children = psutil.Process(door.process.pid).children()
    [found] = [child for child in children if "p2p.door.process" in child.cmdline()]
    return found


# -- the transcript of the documentation ---------------------------------------------------------


def transcript() -> list[tuple[str, str]]:
    """Each command with what the documentation says that it prints."""
    section = SERVING.read_text().split("## OpenAI-compatible door")[1].split("\n## ")[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return [(said, "\n".join(printed)) for said, printed in found if said.startswith("curl")]


def curl_says_what_is_documented(door: LocalPeer) -> None:
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    given = {"OPENAI_BASE_URL": door.told["http"], "OPENAI_API_KEY": TOKEN}
    environment = {**kept, **given, "CURL_HOME": os.devnull}
    commands = transcript()
    assert len(commands) >= 5
    for command, printed in commands:
        done = subprocess.run(
            ["sh", "-c", command],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            env=environment,
            check=True,
        )
        assert _shape(done.stdout) == _shape(printed), (command, done.stdout)


def _shape(printed: str) -> list[Any]:
    """Lines without their values; pieces of a stream count once."""
    found: list[Any] = []
    for line in filter(None, printed.splitlines()):
        told = re.fullmatch(r"(data: )?(\{.*\})", line)
        shape = (told[1], _keys(json.loads(told[2]))) if told else line
        if not found or found[-1] != shape:
            found.append(shape)
    return found


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _keys(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [_keys(inner) for inner in value]
    return type(value).__name__
