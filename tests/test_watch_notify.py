"""A command and a webhook are told of alerts, in their own time; the peer never waits."""

import json
import threading
import time
from collections.abc import Iterator
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
    command = f'cat > {tmp_path}/json; echo "$P2P_ALERT_RULE $P2P_ALERT_PEER." > {told}.new; '
    notify = ThreadNotify(f"{command} mv {told}.new {told}", None, print)
    notify.tell({**ALERT, "peer": None})
    _until(told.exists)
    assert told.read_text() == "no-quorum .\n"
    assert json.loads((tmp_path / "json").read_text()) == {"schema": 1, **ALERT, "peer": None}


@pytest.mark.parametrize(
    ("command", "said"),
    [("exit 3", "ended with code 3"), ("sleep 60 & wait", "took over 0.2 s")],
)
def test_a_command_that_fails_or_hangs_is_told_of(command: str, said: str) -> None:
    failed: Queue[str] = Queue()
    notify = ThreadNotify(command, None, failed.put, time_limit_s=0.2)
    notify.tell(ALERT)
    assert said in failed.get(timeout=SOON_S)


@pytest.fixture
def hook() -> Iterator[tuple[str, "Queue[bytes]"]]:
    told: Queue[bytes] = Queue()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(500 if self.path == "/wrong" else 204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", told
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_webhook_gets_it_as_a_post(hook: tuple[str, "Queue[bytes]"]) -> None:
    url, told = hook
    failed: Queue[str] = Queue()
    ThreadNotify(None, url, failed.put).tell(ALERT)
    assert json.loads(told.get(timeout=SOON_S)) == {"schema": 1, **ALERT}
    ThreadNotify(None, f"{url}/wrong", failed.put).tell(ALERT)
    assert "notify_url cannot be reached: HTTP Error 500" in failed.get(timeout=SOON_S)


def test_nobody_there_and_no_url() -> None:
    failed: Queue[str] = Queue()
    ThreadNotify(None, "http://127.0.0.1:1/", failed.put).tell(ALERT)
    assert "cannot be reached" in failed.get(timeout=SOON_S)
    with pytest.raises(Usage, match="must begin with http"):
        checked_url("file:///etc/passwd")
    assert checked_url(None) is None


def test_a_storm_waits_bounded_and_the_newest_stays(tmp_path: Path) -> None:
    gate, last = tmp_path / "gate", tmp_path / "last"
    command = f'while [ ! -e {gate} ]; do sleep 0.01; done; echo "$P2P_ALERT_ID" >> {last}'
    notify = ThreadNotify(command, None, print)
    for number in range(3 * WAITING_MAX):
        notify.tell({**ALERT, "id": f"x-{number}"})
    gate.touch()
    _until(lambda: last.exists() and f"x-{3 * WAITING_MAX - 1}\n" in last.read_text())
    assert len(last.read_text().splitlines()) <= WAITING_MAX + 1


def test_without_anybody_to_tell_there_is_no_thread() -> None:
    notify = ThreadNotify(None, None, print)
    notify.tell(ALERT)
    assert notify.thread is None


def _until(is_so: object) -> None:
    assert callable(is_so)
    deadline_s = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
