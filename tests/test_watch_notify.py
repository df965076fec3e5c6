"""A command and a webhook are told of alerts, in their own time; the peer never waits."""

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue

import pytest

from p2p.errors import Usage
from p2p.watch.notify import WAITING_MAX, ThreadNotify, checked_url

ALERT = {"id": "no-quorum", "rule": "no-quorum", "severity": "critical", "state": "firing"}
SOON_S = 20.0


def test_a_command_gets_the_alert_as_json_and_as_variables(tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)  # whoever reads it waits until somebody has written it
    notify = ThreadNotify(f'(echo "$P2P_ALERT_RULE $P2P_ALERT_PEER."; cat) > {told}', None, print)
    notify.tell({**ALERT, "peer": None})
    variables, body = told.read_text().split("\n")
    assert variables == "no-quorum ."
    assert json.loads(body) == {"schema": 1, **ALERT, "peer": None}


@pytest.mark.parametrize(
    ("command", "said"),
    [("exit 3", "ended with code 3"), ("sleep 60 & wait", "took over 0.2 s")],
)
def test_a_command_that_fails_or_hangs_is_told_of(command: str, said: str) -> None:
    failed: Queue[str] = Queue()
    notify = ThreadNotify(command, None, failed.put, time_limit_s=0.2)
    notify.tell(ALERT)
    assert said in failed.get(timeout=SOON_S)


@dataclass
class Hook:
    """A webhook; who posts to it waits while the gate is shut."""

    url: str
    told: "Queue[bytes]"
    gate: threading.Event


@pytest.fixture
def hook() -> Iterator[Hook]:
    told: Queue[bytes] = Queue()
    gate = threading.Event()
    gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            gate.wait(SOON_S)
            told.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(500 if self.path == "/wrong" else 204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield Hook(f"http://127.0.0.1:{server.server_port}", told, gate)
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_webhook_gets_it_as_a_post(hook: Hook) -> None:
    failed: Queue[str] = Queue()
    ThreadNotify(None, hook.url, failed.put).tell(ALERT)
    assert json.loads(hook.told.get(timeout=SOON_S)) == {"schema": 1, **ALERT}
    ThreadNotify(None, f"{hook.url}/wrong", failed.put).tell(ALERT)
    assert "notify_url cannot be reached: HTTP Error 500" in failed.get(timeout=SOON_S)


def test_nobody_there_and_no_url() -> None:
    failed: Queue[str] = Queue()
    ThreadNotify(None, "http://127.0.0.1:1/", failed.put).tell(ALERT)
    assert "cannot be reached" in failed.get(timeout=SOON_S)
    with pytest.raises(Usage, match="must begin with http"):
        checked_url("file:///etc/passwd")
    assert checked_url(None) is None


def test_a_storm_waits_bounded_and_the_newest_stays(hook: Hook) -> None:
    hook.gate.clear()
    notify = ThreadNotify(None, hook.url, print)
    for number in range(3 * WAITING_MAX):
        notify.tell({**ALERT, "id": number})
    hook.gate.set()
    told = [-1]
    while told[-1] != 3 * WAITING_MAX - 1:
        told.append(json.loads(hook.told.get(timeout=SOON_S))["id"])
    assert len(told[1:]) <= WAITING_MAX + 1


def test_without_anybody_to_tell_there_is_no_thread() -> None:
    notify = ThreadNotify(None, None, print)
    notify.tell(ALERT)
    assert notify.thread is None
