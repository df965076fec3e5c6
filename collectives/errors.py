"""Why an operation between ranks can end without a result."""


class Aborted(Exception):
    """The generation is over. The operation's input is untouched, its output means nothing."""


class OutOfStep(Aborted):
    """What arrived does not fit: data was lost with a connection, or ranks do different things.

    Nothing can repair that within the generation; only a new one can.
    """
