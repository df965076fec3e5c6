"""A child dies with its parent: Linux prctl(PR_SET_PDEATHSIG), re-armed after every fork; and
before it, when memory runs out."""

import contextlib
import ctypes
import os
import signal
from pathlib import Path

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


BEFORE_OTHERS = 500  # of 1000; a user may raise the own one


def die_before_others() -> None:
    """When memory runs out the kernel shall end us, not the peer or a user's programs."""
    with contextlib.suppress(OSError):  # no such file in some containers
        Path("/proc/self/oom_score_adj").write_text(str(BEFORE_OTHERS))


def die_with(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """That signal for us as soon as `parent` is gone; if it has gone already, our end at once.

    The kernel sends it when the *thread* that forked us ends, so the parent forks from a thread
    that lives as long as it does.
    """
    if _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_PDEATHSIG): {os.strerror(code)}")
    if os.getppid() != parent:
        os._exit(1)
