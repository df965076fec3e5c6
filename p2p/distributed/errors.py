"""Why an operation of a process group failed: RuntimeErrors, as torch's own backends raise."""


class GroupError(RuntimeError):
    """One sentence: what ended, why, and which rank is to blame where that is known."""


class TimedOut(GroupError):
    """An operation did not end within its timeout; the sentence names who is missing."""
