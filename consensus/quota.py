"""How much a leader takes in before a quorum has it: the bound on the uncommitted log."""

from collections import deque


class Quota:
    """Counts the bytes of each entry until it is committed, so that nothing can leak."""

    def __init__(self, max_bytes: int) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[int, int]] = deque()  # index and size

    def admits(self, size: int) -> bool:
        """Whether another entry may be taken; an empty quota takes one of any size."""
        return self.bytes == 0 or self.bytes + size <= self._max_bytes

    def add(self, index: int, size: int) -> None:
        """Entry `index` waits to be committed."""
        self._waiting.append((index, size))
        self.bytes += size

    def committed(self, index: int) -> None:
        """Everything up to `index` is committed."""
        while self._waiting and self._waiting[0][0] <= index:
            self.bytes -= self._waiting.popleft()[1]
