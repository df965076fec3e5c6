"""Memory that other processes of the same user on the same host can read, and only read.

A segment is a memfd: it has no name, so nothing is left of it when the last process that uses it is
gone, however that ended. Others open it through /proc/<pid>/fd/<n>, which the kernel allows to
processes of the same user (and root) only. Once its owner has mapped it, it is sealed: nobody,
the owner included, can make another writable mapping of it, or change its size (memfd_create(2),
F_SEAL_FUTURE_WRITE). So a process that is confused or out of date can disturb nobody else.
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ADD_SEALS = 1033  # fcntl.F_ADD_SEALS and the seals, linux/fcntl.h
_SEALS = 0x0001 | 0x0002 | 0x0004 | 0x0010  # SEAL, SHRINK, GROW, FUTURE_WRITE


@dataclass(frozen=True, slots=True)
class Location:
    """Where another process finds a segment."""

    pid: int
    fd: int
    device: int
    inode: int
    size: int

    LAYOUT = struct.Struct("=5Q")

    def pack(self) -> bytes:
        return self.LAYOUT.pack(self.pid, self.fd, self.device, self.inode, self.size)

    @classmethod
    def unpack(cls, data: bytes) -> "Location":
        """Raises struct.error when these are not the bytes of a location."""
        return cls(*cls.LAYOUT.unpack(data))


class Segment:
    """`size` bytes of our own, zero at first. Raises OSError when the system has none to give."""

    def __init__(self, size: int) -> None:
        fd = os.memfd_create("p2p", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            self.memory = mmap.mmap(fd, size)
            fcntl.fcntl(fd, _ADD_SEALS, _SEALS)
            status = os.fstat(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self.location = Location(os.getpid(), fd, status.st_dev, status.st_ino, size)

    @property
    def address(self) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(self.memory))

    def close(self) -> None:
        """Nobody can open it from now on. The memory goes with the last array that lies in it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            _unmap(self.memory)


class Mapping:
    """Another process's segment, read-only. Raises OSError when this process cannot have it."""

    def __init__(self, location: Location) -> None:
        fd = os.open(f"/proc/{location.pid}/fd/{location.fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            found = (status.st_dev, status.st_ino, status.st_size)
            if found != (location.device, location.inode, location.size):
                raise OSError(f"process {location.pid} has another file where its memory should be")
            self.memory = mmap.mmap(fd, location.size, prot=mmap.PROT_READ)
        finally:
            os.close(fd)

    @property
    def address(self) -> int:
        return int(np.frombuffer(self.memory, np.uint8).__array_interface__["data"][0])

    def array(self, dtype: np.dtype[Any], count: int, offset: int) -> NDArray[Any]:
        """`count` values from byte `offset`; ValueError when they are not all inside."""
        return np.frombuffer(self.memory, dtype, count, offset)

    def close(self) -> None:
        """Idempotent. The memory goes with the last array that lies in it."""
        _unmap(self.memory)


def _unmap(memory: mmap.mmap) -> None:
    with contextlib.suppress(BufferError):  # arrays lie in it: it goes with the last of them
        memory.close()
