"""Three PySyncObj processes on this host with its defaults: kept in memory, nothing is synced.

Its users call it inside the process that takes part; here a client outside asks the leading process
over a plain socket with requests of four bytes (pysyncobj_node), which adds a few hundredths of a
millisecond to what PySyncObj takes.
"""

import importlib.util
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from tools.bench.contender import Missing, free_ports, one_after_the_other
from tools.bench.rivals.processes import Process, start

MEMBERS = 3
START_TIMEOUT_S = 30.0
ANSWER_WITHIN_S = 10.0
QUIET_S = 1.0


class PySyncObj:
    """See Contender. Raises Missing when it is not installed."""

    name = "pysyncobj"

    def __init__(self) -> None:
        if importlib.util.find_spec("pysyncobj") is None:
            raise Missing(
                "PySyncObj is not installed: `pip install p2pnode[bench]`, or leave it out"
            )
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="p2p-pysyncobj-"))
        ports = free_ports(2 * MEMBERS)
        self._clients = ports[:MEMBERS]
        self._addresses = [f"127.0.0.1:{port}" for port in ports[MEMBERS:]]
        try:
            self._processes = [self._start(number) for number in range(MEMBERS)]
            self.leader = self._find_leader()
            self.one_at_a_time(0.1)
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
                connection.send(number)
                connection.answers()

            return one_after_the_other(command, seconds)

    def in_flight(self, count: int, seconds: float) -> float:
        with _Connection(self._clients[self.leader]) as connection:
            for number in range(count):
                connection.send(number)
            done, start_s = 0, time.perf_counter()
            while time.perf_counter() < start_s + seconds:
                for _ in connection.answers():
                    connection.send(count + done)
                    done += 1
            return done / (time.perf_counter() - start_s)

    def kill_leader(self) -> float:
        killed = self.leader
        start_s = time.perf_counter()
        self._processes[killed].kill()
        self.leader = self._find_leader(without=killed)
        with _Connection(self._clients[self.leader]) as connection:
            connection.send(0)
            connection.answers()
        taken_s = time.perf_counter() - start_s
        self._processes[killed].wait()
        self._processes[killed] = self._start(killed)
        self._find_leader()
        time.sleep(QUIET_S)
        return taken_s

    def _start(self, number: int) -> Process:
        others = [address for address in self._addresses if address != self._addresses[number]]
        command = [sys.executable, "-m", "tools.bench.rivals.pysyncobj_node"]
        command += [str(self._clients[number]), self._addresses[number], *others]
        return start(command, self._folder / f"{number}.log")

    def _find_leader(self, without: int | None = None) -> int:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            for member, port in enumerate(self._clients):
                try:
                    if member != without and _leads(port):
                        return member
                except OSError:
                    continue
            time.sleep(0.01)
        raise TimeoutError(f"PySyncObj has no leader within {START_TIMEOUT_S:g} s")


def _leads(port: int) -> bool:
    with _Connection(port) as connection:
        connection.send(ASK_LEADER)
        return connection.answers() == [1]


class _Connection:
    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), ANSWER_WITHIN_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._sock.close()

    def send(self, number: int) -> None:
        self._sock.sendall(number.to_bytes(4, "big"))

    def answers(self) -> list[int]:
        """At least one. Raises OSError, also when a command failed."""
        found: list[int] = []
        while not found:
            data = self._sock.recv(65_536)
            if not data:
                raise ConnectionError("a PySyncObj process closed the connection")
            self._got += data
            whole = len(self._got) // 4 * 4
            found = [int.from_bytes(self._got[at : at + 4], "big") for at in range(0, whole, 4)]
            self._got = self._got[whole:]
        if FAILED in found:
            raise ConnectionError("PySyncObj refused a command")
        return found


# As in pysyncobj_node, which only a Python that has PySyncObj can import.
ASK_LEADER = 0xFFFFFFFF
FAILED = 0xFFFFFFFE
