"""Sleeping on a word of shared memory until another process changes it: futex(2), by ctypes.

Both calls work on a mapping that may only be read, so nobody needs write access to the memory of
another process. `wait` compares the word and falls asleep in one step: a change that comes before
it, or while it falls asleep, is not missed (Drepper, "Futexes Are Tricky", 2011).

Order of memory. Who publishes writes its data, calls `fence`, writes the word, calls `wake`; who
reads reads the word, calls `fence`, reads the data. On x86-64 stores become visible in program
order and loads are done in program order, so `fence` does nothing there. Elsewhere it is
membarrier(2), which executes a full barrier for its caller. (Only x86-64 has been run.)
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass

_WAIT, _WAKE = 0, 1  # linux/futex.h; without FUTEX_PRIVATE_FLAG: between processes
_EVERYBODY = 2**31 - 1
_GLOBAL_EXPEDITED = 2  # linux/membarrier.h
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (
    *(ctypes.c_long, ctypes.c_void_p, ctypes.c_long, ctypes.c_long),
    *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long),
)


@dataclass(frozen=True, slots=True)
class _Numbers:
    futex: int
    membarrier: int | None  # None where the processor keeps the order by itself


_NUMBERS = {
    "x86_64": _Numbers(202, None),
    "aarch64": _Numbers(98, 283),
    "riscv64": _Numbers(98, 283),
}
_known = sys.platform == "linux" and struct.calcsize("P") == 8  # 32 bits: other numbers
_numbers = _NUMBERS.get(platform.machine()) if _known else None


def available() -> bool:
    """Whether the machine is one whose system calls are known here."""
    return _numbers is not None


def wait(address: int, seen: int) -> None:
    """Sleep while the 32-bit word at `address` is `seen`; may also return for no reason."""
    number = _call(address, _WAIT, seen)
    if number not in (0, errno.EAGAIN, errno.EINTR):
        raise OSError(number, f"futex cannot wait here: {os.strerror(number)}")


def wake(address: int) -> None:
    """Wake everybody who sleeps on the word at `address`."""
    number = _call(address, _WAKE, _EVERYBODY)
    if number:
        raise OSError(number, f"futex cannot wake here: {os.strerror(number)}")


def fence() -> None:
    """What was read and written before is read and written before what comes after."""
    if _numbers is not None and _numbers.membarrier is not None:
        membarrier(_numbers.membarrier)


def membarrier(number: int) -> None:
    if _syscall(number, _GLOBAL_EXPEDITED, 0, 0, None, None, 0) < 0:
        raise OSError(ctypes.get_errno(), "this system has no membarrier")


def _call(address: int, operation: int, value: int) -> int:
    """The error number, 0 if none."""
    if _numbers is None:
        return errno.ENOSYS
    if _syscall(_numbers.futex, address, operation, value, None, None, 0) >= 0:
        return 0
    return ctypes.get_errno()
