"""How a run fails."""


class Violation(Exception):
    """An invariant does not hold; `invariant` names it, str() says what was seen."""

    def __init__(self, invariant: str, sentence: str) -> None:
        super().__init__(sentence)
        self.invariant = invariant
