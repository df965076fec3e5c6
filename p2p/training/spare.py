"""The warm spare: a process that has imported torch and forks trainers on demand.

Started as `python -m p2p.training.spare` with a SOCK_SEQPACKET socket to its peer as stdin. Forking
takes milliseconds where a cold start takes seconds, and trainers share the memory of the imports.
"""

import gc
import os
import selectors
import signal
import socket
import sys
from importlib import import_module
from typing import Any

import msgpack

from p2p.training.death import die_before_others, die_with

MESSAGE_BYTES_MAX = 1 << 16


class Spare:
    """Single-threaded, so that a fork never inherits a lock that nobody can release."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.children: dict[int, Any] = {}  # pid -> child id
        wake, self._wake = socket.socketpair()
        wake.setblocking(False)
        self._wake.setblocking(False)
        self._woken = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(peer, selectors.EVENT_READ)
        self.selector.register(wake, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until the peer closes its end; then every child is killed."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self._woken:
                    self._woken.recv(4096)
                    self._reap()
                elif not self._read():
                    self._kill_all()
                    return

    def _read(self) -> bool:
        data, fds, flags, _ = socket.recv_fds(self.peer, MESSAGE_BYTES_MAX, 1)
        if not data:
            return False
        message = None if flags & socket.MSG_TRUNC else msgpack.unpackb(data)
        if isinstance(message, dict) and message.get("kind") == "fork" and len(fds) == 1:
            stream = socket.socket(fileno=fds[0])
            self._fork(message["child"], stream, message.get("of") == "load")
        else:
            print(f"spare: not understood: {message!r}", file=sys.stderr, flush=True)
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, child: Any, stream: socket.socket, is_replica: bool = False) -> None:
        me = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, no memory: the peer sees a trainer that died
            print(f"spare: cannot fork: {error}", file=sys.stderr, flush=True)
            stream.close()
            return
        if pid == 0:
            become(self, me, stream, is_replica)
        stream.close()
        self.children[pid] = child
        self._say({"kind": "forked", "child": child, "pid": pid})

    def _reap(self) -> None:
        for pid in list(self.children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                self._say(
                    {
                        "kind": "exited",
                        "child": self.children.pop(pid),
                        "pid": pid,
                        "code": code if code >= 0 else None,
                        "signal": -code if code < 0 else None,
                    }
                )

    def _kill_all(self) -> None:
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)

    def _say(self, message: dict[str, Any]) -> None:
        self.peer.send(msgpack.packb(message))

    def let_go(self) -> None:
        """In the child: close what belongs to the spare alone."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.selector.close()
        self._woken.close()
        self._wake.close()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, self.peer.fileno())
        self.peer.detach()
        os.close(null)


def become(spare: Spare, parent: int, stream: socket.socket, is_replica: bool) -> None:
    """A trainer or a replica, in the forked child; never returns."""
    code = 1
    try:
        die_with(parent)
        die_before_others()
        spare.let_go()
        if is_replica:
            code = import_module("p2p.serving.replica").main(stream)
        else:
            from p2p.training.trainer import main as train

            code = train(stream)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> int:
    die_with(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    peer = socket.socket(fileno=0)
    spare = Spare(peer)
    from p2p.training.trainer import warm

    seconds = warm()
    import_module("p2p.serving.replica")  # with the models, of which a replica needs all at once
    gc.collect()
    gc.freeze()  # a later collection must not write to pages that forks share
    peer.send(msgpack.packb({"kind": "warm", "seconds": seconds}))
    spare.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
