"""Lets somebody know of an alert: by a command of theirs, or a webhook. Never waits in the peer.

A thread does it, one after the other: the command gets the alert as JSON on stdin and as variables
P2P_ALERT_…; the webhook gets the same JSON as the body of a POST. Either has TIME_LIMIT_S. What
waits is bounded: in a storm the oldest is let go, for the newest says how it is.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from p2p.errors import Usage

TIME_LIMIT_S = 10.0
WAITING_MAX = 100
SHOWN = ("id", "rule", "severity", "state", "peer", "job", "text", "metric", "value", "threshold")


def checked_url(url: str | None) -> str | None:
    """Raises Usage for one that is none."""
    if url and not url.startswith(("http://", "https://")):
        raise Usage(f"notify_url is {url!r}: it must begin with http:// or https://")
    return url or None


class Notify(Protocol):
    def tell(self, alert: Mapping[str, Any]) -> None:
        """Of an alert as `p2pnode alerts --json` shows it, and its "state": firing or resolved.
        Returns at once."""


class MemoryNotify:
    """The twin: keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, Any]] = []

    def tell(self, alert: Mapping[str, Any]) -> None:
        self.told = [*self.told, alert][-WAITING_MAX:]


class ThreadNotify:
    """The real one. `failed` is called from its thread with a sentence."""

    def __init__(
        self,
        command: str | None,
        url: str | None,
        failed: Callable[[str], None],
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self._command, self._url = command or None, url or None
        self._failed = failed
        self._time_limit_s = time_limit_s
        self._waiting: queue.Queue[str] = queue.Queue(WAITING_MAX)
        self.thread: threading.Thread | None = None

    def tell(self, alert: Mapping[str, Any]) -> None:
        if not (self._command or self._url):
            return
        body = json.dumps({"schema": 1, **alert})
        while True:
            try:
                self._waiting.put_nowait(body)
                break
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._waiting.get_nowait()
        if self.thread is None:  # most peers never have anything to say
            self.thread = threading.Thread(target=self._work, name="notify", daemon=True)
            self.thread.start()

    def _work(self) -> None:
        while True:
            body = self._waiting.get()
            for deliver in (self._run_command, self._post):
                problem = deliver(body)
                if problem:
                    self._failed(problem)

    def _run_command(self, body: str) -> str | None:
        """Why it failed. In a session of its own, so that all it starts ends with it."""
        if self._command is None:
            return None
        told = json.loads(body)
        shown = {f"P2P_ALERT_{name.upper()}": str(told.get(name) or "") for name in SHOWN}
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **shown},
                start_new_session=True,
            )
        except OSError as error:
            return f"the command of notify_command cannot be started: {error.strerror}"
        with process:
            try:
                process.communicate(body.encode(), timeout=self._time_limit_s)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                return f"the command of notify_command took over {self._time_limit_s:g} s"
        if process.returncode:
            return f"the command of notify_command ended with code {process.returncode}"
        return None

    def _post(self, body: str) -> str | None:
        """Why it failed. urllib costs some MB, so it is imported where it is used."""
        if self._url is None:
            return None
        from urllib.request import Request, urlopen

        head = {"Content-Type": "application/json", "User-Agent": "p2pnode"}
        try:
            request = Request(self._url, body.encode(), head, method="POST")
            with urlopen(request, timeout=self._time_limit_s) as answer:
                answer.read(1)
        except (OSError, ValueError) as error:
            return f"notify_url cannot be reached: {error}"
        return None
