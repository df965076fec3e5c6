"""What the core raises. Nothing a remote peer sends in good faith can raise any of these."""


class RaftError(Exception):
    """Base of the errors below."""


class ProposalDropped(RaftError):
    """This proposal was not appended; the text says why. It may be tried again, on the leader."""


class Busy(ProposalDropped):
    """Too much waits for a quorum already. Nothing was appended; try again in a moment."""


class TransferRefused(RaftError):
    """Leadership cannot go to that peer now; the text says why."""


class SafetyViolation(RaftError):
    """Two histories contradict each other (lost disk, two peers of one id, bug): stop this peer.

    Going on would spread the contradiction; a core that tolerates two leaders in a term hides it.
    """
