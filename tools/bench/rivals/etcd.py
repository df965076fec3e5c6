"""Three etcd members on this host, driven over HTTP: POST /v3/kv/put, JSON, kept-alive connections.

The client is as lean as can be, in etcd's favour: requests are bytes made beforehand, sent on plain
sockets; of an answer only its end is looked for. All settings are etcd's defaults.
"""

import base64
import json
import selectors
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from tools.bench.contender import KEYS, VALUE, Missing, free_ports, one_after_the_other
from tools.bench.rivals.processes import Process, start

MEMBERS = 3
START_TIMEOUT_S = 30.0
QUIET_S = 1.0  # after a restart, before the next kill
# What a member promised to pass on to a leader that died is lost: ask again after so long.
ASK_AGAIN_S = 0.25


class Etcd:
    """See Contender. Raises Missing when there is no etcd."""

    name = "etcd"

    def __init__(self) -> None:
        self._program = shutil.which("etcd")
        if self._program is None:
            raise Missing("etcd is not installed: `apt install etcd-server`, or leave it out")
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="p2p-etcd-"))
        ports = free_ports(2 * MEMBERS)
        self._clients, self._peers = ports[:MEMBERS], ports[MEMBERS:]
        self._processes = [self._start(number) for number in range(MEMBERS)]
        try:
            self._until_commits(START_TIMEOUT_S)
            self.leader = self._find_leader()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def one_at_a_time(self, seconds: float) -> list[float]:
        with _Connection(self._clients[self.leader]) as connection:

            def command(number: int) -> None:
                connection.put(number)
                connection.wait()

            return one_after_the_other(command, seconds)

    def in_flight(self, count: int, seconds: float) -> float:
        selector = selectors.DefaultSelector()
        connections = [_Connection(self._clients[self.leader]) for _ in range(count)]
        for number, connection in enumerate(connections):
            selector.register(connection.sock, selectors.EVENT_READ, connection)
            connection.put(number)
        done, start_s = 0, time.perf_counter()
        while time.perf_counter() < start_s + seconds:
            for key, _ in selector.select():
                if key.data.read():
                    done += 1
                    key.data.put(done)
        rate = done / (time.perf_counter() - start_s)
        selector.close()
        for connection in connections:
            connection.close()
        return rate

    def kill_leader(self) -> float:
        killed = self.leader
        start_s = time.perf_counter()
        self._processes[killed].send_signal(signal.SIGKILL)
        self._until_commits(START_TIMEOUT_S, without=killed)
        taken_s = time.perf_counter() - start_s
        self._processes[killed].wait()
        self._processes[killed] = self._start(killed)
        self._until_commits(START_TIMEOUT_S, only=killed)
        time.sleep(QUIET_S)
        self.leader = self._find_leader()
        return taken_s

    def _start(self, number: int) -> Process:
        folder = self._folder / f"m{number}"
        client = f"http://127.0.0.1:{self._clients[number]}"
        peer = f"http://127.0.0.1:{self._peers[number]}"
        everybody = ",".join(
            f"m{member}=http://127.0.0.1:{port}" for member, port in enumerate(self._peers)
        )
        command = [str(self._program), f"--name=m{number}", f"--data-dir={folder}"]
        command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
        command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        command += [f"--initial-cluster={everybody}", "--log-level=error"]
        return start(command, self._folder / f"m{number}.log")

    def _until_commits(
        self, within_s: float, without: int | None = None, only: int | None = None
    ) -> None:
        """Try one member after the other; the answer to a put says that it was committed."""
        deadline_s = time.monotonic() + within_s
        members = [only] if only is not None else [m for m in range(MEMBERS) if m != without]
        while time.monotonic() < deadline_s:
            for member in members:
                try:
                    with _Connection(self._clients[member], ASK_AGAIN_S) as connection:
                        connection.put(0)
                        connection.wait()
                        return
                except (OSError, _Refused):
                    time.sleep(0.01)
        raise TimeoutError(f"etcd committed nothing within {within_s:g} s")

    def _find_leader(self) -> int:
        for member, port in enumerate(self._clients):
            status = _post(port, "/v3/maintenance/status", {})
            if status["leader"] == status["header"]["member_id"]:
                return member
        raise TimeoutError("etcd has no leader")


class _Refused(Exception):
    pass


class _Connection:
    def __init__(self, port: int, timeout_s: float = 30.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = [
            _request(port, "/v3/kv/put", {"key": _base64(f"k{number}"), "value": _base64(VALUE)})
            for number in range(KEYS)
        ]
        self._got = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def put(self, number: int) -> None:
        self.sock.sendall(self._requests[number % KEYS])

    def wait(self) -> None:
        while not self.read():
            pass

    def read(self) -> bool:
        """Whether the answer is complete. Raises _Refused for another status than 200."""
        data = self.sock.recv(65_536)
        if not data:
            raise ConnectionError("etcd closed the connection")
        self._got += data
        head, blank, body = self._got.partition(b"\r\n\r\n")
        if not blank:
            return False
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) < int(length):
            return False
        self._got = b""
        if not head.startswith(b"HTTP/1.1 200"):
            raise _Refused(body.decode(errors="replace"))
        return True

    def close(self) -> None:
        self.sock.close()


def _post(port: int, path: str, body: dict[str, Any]) -> Any:
    with socket.create_connection(("127.0.0.1", port), 10.0) as sock:
        sock.sendall(_request(port, path, body).replace(b"keep-alive", b"close"))
        got = b"".join(iter(lambda: sock.recv(65_536), b""))
    return json.loads(got.partition(b"\r\n\r\n")[2])


def _request(port: int, path: str, body: dict[str, Any]) -> bytes:
    text = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: keep-alive\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    return (head + text).encode()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
