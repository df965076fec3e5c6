"""Commands as processes of their own, forked from one that has imported what they need.

To start Python and to import takes ten times as long as what most commands do. A fork is like a
fresh process: in the one it comes from, nothing but imports has happened.
"""

import atexit
import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache

ORDER_BYTES_MAX = 1 << 18
FDS = 3  # of an order: stdout, stderr, and where the end is told


class Forks:
    """The process that forks, and what it is asked."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._orders, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ORDER_BYTES_MAX)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__], stdin=theirs.fileno()
            )
        atexit.register(self._close)

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float
    ) -> tuple[int, str, str]:
        """`p2pnode ARGUMENTS` to its end: exit code (below 0: minus the signal), stdout, stderr.

        Raises subprocess.TimeoutExpired when it has been killed because it took too long.
        """
        order = {"arguments": list(arguments), "environment": dict(environment), "at": os.getcwd()}
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, ours:
            fds = [out.fileno(), err.fileno(), theirs.fileno()]
            socket.send_fds(self._orders, [json.dumps(order).encode()], fds)
            theirs.close()
            with ours.makefile() as told:
                pid = int(told.readline())
                ours.settimeout(timeout_s)
                try:
                    code = int(told.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(list(arguments), timeout_s) from None
            printed = []
            for file in (out, err):
                file.seek(0)
                printed.append(file.read().decode())
        return code, printed[0], printed[1]

    def _close(self) -> None:
        self._orders.close()
        self._process.wait()


@cache
def forks() -> Forks:
    return Forks()


def take(orders: socket.socket) -> list[str]:
    """Returns in a fork for each order, as the command: its arguments. At the end nowhere."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the forks in between are not waited for
    while True:
        data, fds, _, _ = socket.recv_fds(orders, ORDER_BYTES_MAX, FDS)
        if not data:
            sys.exit()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            orders.close()
            order = json.loads(data)
            tell_of_child(fds[-1])
            for to, fd in enumerate((os.open(os.devnull, os.O_RDONLY), *fds[:2])):
                os.dup2(fd, to)
                os.close(fd)
            os.environ.clear()
            os.environ.update(order["environment"])
            os.chdir(order["at"])
            arguments: list[str] = order["arguments"]
            return arguments
        for fd in fds:
            os.close(fd)


def tell_of_child(fd: int) -> None:
    """Returns in a fork; this process tells of its pid and its end, and ends, too."""
    if (pid := os.fork()) == 0:
        os.close(fd)
        return
    with contextlib.suppress(BrokenPipeError):
        os.write(fd, f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(fd, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    from p2p import cli, client  # noqa: F401 – most commands need the client

    gc.freeze()
    sys.exit(cli.main(take(socket.socket(fileno=os.dup(0)))))
