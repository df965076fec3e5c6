"""From proposing a command to its being applied, on the peer that leads. Pure."""


class CommitTimer:
    """Follows one command at a time: the next one that is proposed when the last is applied."""

    def __init__(self) -> None:
        self._awaited: tuple[int, float] | None = None

    def proposed(self, index: int, at_s: float) -> None:
        if self._awaited is None:
            self._awaited = index, at_s

    def applied(self, index: int, now_s: float) -> float | None:
        """Seconds that the followed one took, when it is this one."""
        if self._awaited is None or index < self._awaited[0]:
            return None
        took_s = now_s - self._awaited[1] if index == self._awaited[0] else None
        self._awaited = None
        return took_s

    def give_up(self) -> None:
        """Another leads: what was proposed here may never be applied."""
        self._awaited = None
