"""A thread that notices when another process of the generation ends, however it ends."""

import os
import select
import threading
from collections.abc import Callable, Mapping


class Watch:
    """Calls `lost(rank)` when one of these processes ends, until closed. `pidfds` by rank."""

    def __init__(self, pidfds: Mapping[int, int], lost: Callable[[int], None]) -> None:
        self._ranks = {fd: rank for rank, fd in pidfds.items()}
        self._lost = lost
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Not from `lost`; before the pidfds are closed."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)

    def _watch(self) -> None:
        poll = select.poll()
        for fd in (self._stop, *self._ranks):
            poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if self._stop in ready:
                return
            for fd in ready:
                poll.unregister(fd)
                self._lost(self._ranks[fd])
