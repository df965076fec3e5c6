"""Why an operation between ranks can end without a result."""


class Aborted(Exception):
    """The generation is over. The operation's input is untouched, its output means nothing."""


class LostPeer(Aborted):
    """A member is gone: its process ended, its connection broke, or it has left the generation.

    `rank` is the first that was seen to go. What the others have is for whoever forms generations
    to find out; this one cannot go on.
    """

    def __init__(self, rank: int, how: str) -> None:
        super().__init__(f"rank {rank} {how}")
        self.rank = rank


class OutOfStep(Aborted):
    """What arrived does not fit: data was lost, or ranks do different things.

    Nothing can repair that within the generation; only a new one can.
    """
