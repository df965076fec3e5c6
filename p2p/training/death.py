"""A child dies with its parent: Linux prctl(PR_SET_PDEATHSIG), re-armed after every fork."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """SIGKILL for us as soon as `parent` is gone; at once if it has gone already.

    The kernel sends it when the *thread* that forked us ends, so the parent forks from a thread
    that lives as long as it does.
    """
    if _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_PDEATHSIG): {os.strerror(code)}")
    if os.getppid() != parent:
        os._exit(1)
