"""The process group that torch.distributed holds: its life, its collectives, its messages."""

from datetime import timedelta
from typing import Any

from torch.distributed import ProcessGroup

from p2p.distributed import monitored
from p2p.distributed.calls import Tensors
from p2p.distributed.engine import Engine
from p2p.distributed.moving import Moving
from p2p.distributed.reducing import Reducing
from p2p.distributed.tensors import check, flat, octets
from p2p.distributed.work import GroupWork


class ProcessGroupP2P(Reducing, Moving, ProcessGroup):  # type: ignore[misc]
    """Dense CPU and CUDA tensors of any type; sparse CPU ones in allreduce. Names and arguments are
    torch's."""

    def __init__(self, store: Any, rank: int, size: int, timeout: timedelta, name: str) -> None:
        ProcessGroup.__init__(self, rank, size)  # type: ignore[call-arg]  # not in torch's stubs
        self._store, self._name, self._description = store, name, ""
        self.engine = Engine(store, rank, size, timeout, name)
        self._barriers = 0

    # What torch asks of every group.

    def getBackendName(self) -> str:  # noqa: N802
        return "p2p"

    def setGroupName(self, name: str) -> None:  # noqa: N802
        self._name = name

    def getGroupName(self) -> str:  # noqa: N802
        return self._name

    def setGroupDesc(self, description: str) -> None:  # noqa: N802
        self._description = description

    def getGroupDesc(self) -> str:  # noqa: N802
        return self._description

    def get_group_store(self) -> Any:
        return self._store

    def set_timeout(self, timeout: timedelta) -> None:
        self.engine.timeout = timeout

    _set_default_timeout = set_timeout

    def shutdown(self) -> None:
        self.engine.shutdown()

    def abort(self) -> None:
        self.engine.abort()

    def monitored_barrier(self, timeout: Any = None, wait_all_ranks: bool = False) -> None:
        """Returns when all ranks have called it; else rank 0 raises, naming who has not."""
        self._barriers += 1
        seconds = (self.engine.timeout if timeout is None else timeout).total_seconds()
        monitored.barrier(self.engine, self._barriers, seconds, wait_all_ranks)

    # Messages.

    def send(self, tensors: Tensors, to: int, tag: int = 0) -> GroupWork:
        check(tensors)
        work = self.engine.handle("send", tensors)
        one = flat(tensors)
        one.ready()
        self.engine.send(to, tag, octets(one.array), work)
        return work

    def recv(self, tensors: Tensors, source: int, tag: int = 0) -> GroupWork:
        return self._receive(tensors, source, tag)

    def recv_anysource(self, tensors: Tensors, tag: int = 0) -> GroupWork:
        return self._receive(tensors, None, tag)

    def _receive(self, tensors: Tensors, source: int | None, tag: int) -> GroupWork:
        check(tensors)
        work = self.engine.handle("receive", tensors)
        one = flat(tensors, filled=False)

        def done(error: Exception | None, sender: int) -> None:
            if error is None:
                one.commit()
            work.finish(error, sender)

        self.engine.receive(source, tag, octets(one.array), done)
        return work
