"""How the ranks of a generation agree to use shared memory, or not to.

Whether it works is found out by trying: everybody makes a control segment and tells the others
where it is; everybody maps all others' and tells whether that worked. Both times all hear the same,
so all decide the same: shared memory when it works for every pair, sockets otherwise. It does not
work between hosts, process namespaces (containers) or users.
"""

import contextlib
import struct
import traceback
from collections.abc import Callable

from collectives import futex
from collectives.call import Call
from collectives.errors import Aborted
from collectives.exchange import gather_payloads
from collectives.links import Links
from collectives.shm_control import RANKS_MAX, ControlSegment, Membership, OtherControl
from collectives.shm_memory import MEMORY
from collectives.shm_operations import SharedOperations

_YES, _NO = b"\1", b"\0"
_BEFORE_ALL = 0  # the sequence number; collectives count from 1


class SharedMemory:
    """The algorithm of generations whose members can read one another's memory."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._tried = not links.one_host or not 1 < links.size <= RANKS_MAX
        self._operations: SharedOperations | None = None

    def takes(self, call: Call) -> bool:
        """The first time, the ranks agree; raises what their sockets raise."""
        if not self._tried:
            self._tried = True
            self._operations = join(self._links, self._gather)
        return self._operations is not None

    def run(self, call: Call) -> None:
        assert self._operations is not None
        try:
            self._operations.run(call)
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # arrays there would keep memory mapped
            if isinstance(error, OSError):
                MEMORY.broken = True  # the next generation goes by sockets
                raise Aborted(f"shared memory does not work: {error}") from error
            raise

    def interrupt(self) -> None:
        if (operations := self._operations) is not None:
            operations.interrupt()

    def end(self) -> None:
        if self._operations is not None:
            self._operations.end()

    def _gather(self, payload: bytes) -> list[bytes]:
        return gather_payloads(self._links, _BEFORE_ALL, payload)


def join(links: Links, gather: Callable[[bytes], list[bytes]]) -> SharedOperations | None:
    """Operations in shared memory, or None when not all ranks can. All ranks must call this.

    Raises what `gather`, an all_gather over sockets, raises; then nothing is left.
    """
    membership = Membership(links.job, links.generation, links.rank, links.size)
    control = None if MEMORY.broken else _own(membership)
    others: list[OtherControl] = []
    shared = None
    try:
        invitations = gather(control.invitation if control else b"")
        if control is not None and all(invitations):
            works = _map(membership, invitations, others)
            if all(answer == _YES for answer in gather(_YES if works else _NO)):
                shared = SharedOperations(membership.rank, control, others, MEMORY, links)
        return shared
    finally:
        if shared is None:
            for other in others:
                other.close()
            if control is not None:
                control.close()


def _own(membership: Membership) -> ControlSegment | None:
    if futex.available():
        with contextlib.suppress(OSError):
            return ControlSegment(membership)
    return None


def _map(membership: Membership, invitations: list[bytes], others: list[OtherControl]) -> bool:
    """Fill `others`; False when one of them cannot be mapped."""
    with contextlib.suppress(OSError, struct.error, ValueError):
        for rank, invitation in enumerate(invitations):
            if rank != membership.rank:
                theirs = Membership(membership.job, membership.generation, rank, membership.size)
                others.append(OtherControl(theirs, invitation))
    return len(others) == membership.size - 1
