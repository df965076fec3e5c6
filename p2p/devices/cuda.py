"""A CUDA device for p2p.devices.staging: its copy streams, and pinned memory. The only file that
speaks to CUDA beside p2p.training.device.

Semantics are those of torch's own process groups: an operation takes what the caller's current
stream has been given so far, and `wait` makes the then current stream wait, not the host, for the
copies back in. (torch/csrc/distributed/c10d: ProcessGroupGloo's CUDA works, Work::synchronize.)
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from collectives.shm_memory import SMALL_BYTES_MAX, empty
from p2p.devices.staging import Buffers, Event, Near

_REGISTER_DEFAULT = 0  # cudaHostRegisterDefault


class CudaCopies:
    """The copies of one device of this process, on two streams of their own: out and in."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        make: Any = torch.cuda.Stream
        self._out, self._in = make(device), make(device)
        self.buffers = Buffers(self)

    def mark(self) -> Event:
        return torch.cuda.current_stream(self.device).record_event()

    def copy_out(self, far: torch.Tensor, near: Near, after: Event) -> Event:
        with torch.cuda.stream(self._out):
            self._out.wait_event(after)
            host_tensor(near, far).copy_(far, non_blocking=True)
            far.record_stream(self._out)  # its memory is nobody else's before this copy is done
            return self._out.record_event()

    def copy_in(self, near: Near, far: torch.Tensor, after: Event) -> Event:
        with torch.cuda.stream(self._in):
            self._in.wait_event(after)
            far.copy_(host_tensor(near, far), non_blocking=True)
            far.record_stream(self._in)
            return self._in.record_event()

    def finish(self, event: Event) -> None:
        event.synchronize()  # lets go of the interpreter

    def is_done(self, event: Event) -> bool:
        return bool(event.query())

    def compute_after(self, event: Event) -> None:
        """What the caller's current stream is given from now on waits for it."""
        torch.cuda.current_stream(self.device).wait_event(event)

    def arrival(self) -> Event:
        """When all that has been queued to come in is there."""
        return self._in.record_event()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """In here the stream of the copies in is the current one."""
        with torch.cuda.stream(self._in):
            yield

    def memory(self, size: int) -> NDArray[np.uint8]:
        """Registered memory that the other ranks on this host can read where it lies, pinned; where
        that cannot be, pinned memory of torch's.

        Larger than what shares a segment: a page can be pinned once only. Lives as long as the
        process, for `Buffers` uses it again.
        """
        shared = empty(max(size, SMALL_BYTES_MAX + 1), np.uint8)
        runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        code = runtime.cudaHostRegister(shared.ctypes.data, shared.nbytes, _REGISTER_DEFAULT)
        if int(code) == 0:
            return shared
        with suppress(RuntimeError):  # CUDA would tell the next kernel of this failure
            torch.zeros(1, device=self.device)
        pinned: NDArray[np.uint8] = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
        return pinned


_copies: dict[torch.device, CudaCopies] = {}
_lock = threading.Lock()


def is_far(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cuda"


def copies_of(device: torch.device) -> Any:
    """The one that this process has for the device."""
    with _lock:
        if device not in _copies:
            _copies[device] = CudaCopies(device)
        return _copies[device]


def all_copies(tensors: Sequence[torch.Tensor]) -> list[Any]:
    """Of every device that these are on; none for CPU tensors."""
    return [copies_of(device) for device in dict.fromkeys(t.device for t in tensors if is_far(t))]


@contextmanager
def arriving(copies: Sequence[Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for each in copies:
            stack.enter_context(each.arriving())
        yield


def host_tensor(near: Near, like: torch.Tensor) -> torch.Tensor:
    """The same memory as a tensor of `like`'s type and shape."""
    return torch.from_numpy(near).view(like.dtype).view(like.shape)
