"""The window of appends that one peer has not acknowledged yet, limited by count and by bytes."""

from collections import deque


class Inflights:
    """Oldest first. The limit on bytes lets the append that crosses it pass, and no other."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self.bytes = 0
        self._max_count, self._max_bytes = max_count, max_bytes
        self._waiting: deque[tuple[int, int]] = deque()  # last index and size of each append

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether the window is used up."""
        return len(self._waiting) >= self._max_count or self.bytes >= self._max_bytes

    def add(self, last_index: int, size: int) -> None:
        """An append up to `last_index` with `size` bytes of data is on its way."""
        self._waiting.append((last_index, size))
        self.bytes += size

    def free_to(self, index: int) -> None:
        """Everything up to `index` arrived."""
        while self._waiting and self._waiting[0][0] <= index:
            self.bytes -= self._waiting.popleft()[1]

    def clear(self) -> None:
        """Nothing is on its way that counts."""
        self._waiting.clear()
        self.bytes = 0
