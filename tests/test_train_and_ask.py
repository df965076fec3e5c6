"""README's commands are carried out so that what goes wrong is a problem."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from tools import train_and_ask
from tools.train_and_ask import README, commands


class Answering(BaseHTTPRequestHandler):
    """With the status that the path names."""

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]))
        self.end_headers()
        self.wfile.write(b'{"said": "something"}')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_an_error_over_http_is_a_problem(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    cluster: Any = SimpleNamespace(environment=dict(os.environ))
    assert train_and_ask.shown(cluster, f"curl -s 127.0.0.1:{port}/200") == []
    line = f"curl -s 127.0.0.1:{port}/404"
    assert train_and_ask.shown(cluster, line) == [f"{line}: exit code 22, not 0"]
    assert capsys.readouterr().out.count("something") == 2  # what it was told is shown


def test_all_commands_of_the_section_are_found() -> None:
    lines = commands(README.read_text(), steps=3)
    words = [line.split()[:2] for line in lines]
    verbs = ["submit", "serve", "prompt", "models", "verify", "--join", "-s", "unserve"]
    assert [second for _, second in words] == verbs
    assert "--steps 3" in lines[0]
