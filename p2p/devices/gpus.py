"""The GPUs of this host, as NVIDIA's management library (NVML) tells of them, without torch.

The library is asked only where a driver has put it; without one there is "no GPU", at no cost.
Figures are taken by a thread of their own: a driver may be slow, and heartbeats must not wait. Of
the peers on one host one asks the driver (p2p.devices.gpu_sharing).
"""

import contextlib
import ctypes
import importlib.util
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from p2p.devices.gpu_sharing import Gpu, SharedReading
from p2p.errors import P2PError, Usage

DRIVER_LIBRARY = "libnvidia-ml.so.1"
DEVICES = ("auto", "cpu", "cuda")
MEASURE_EVERY_S = 2.0
# What of a GPU a peer reports to the others; the rest is in its own histories (p2p.measure).
REPORTED = ("uuid", "name", "memory_total", "memory_used", "utilization")
# Of NVML's clock reasons: slowed down by heat or failing power; a power cap at full load is none.
SLOWED = 0x08 | 0x20 | 0x40 | 0x80


class Nvml:
    """The driver. Raises OSError where there is none, or it does not answer."""

    def __init__(self) -> None:
        ctypes.CDLL(DRIVER_LIBRARY)
        import pynvml

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(count)]
            self._last = [self._one(handle) for handle in self._handles]
        except pynvml.NVMLError as error:
            raise OSError(f"the driver does not answer: {error}") from error

    def read(self) -> list[Gpu]:
        """All GPUs in PCI order; one that does not answer is as it was."""
        for number, handle in enumerate(self._handles):
            with contextlib.suppress(self._nvml.NVMLError):
                self._last[number] = self._one(handle)
        return list(self._last)

    def _one(self, handle: Any) -> Gpu:
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        busy: float | None = None
        with contextlib.suppress(nvml.NVMLError):  # some virtual ones do not tell
            busy = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        told = (nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle))
        uuid, name = (text.decode() if isinstance(text, bytes) else str(text) for text in told)
        return Gpu(uuid, name, int(memory.total), int(memory.used), busy, *self._health(handle))

    def _health(self, handle: Any) -> tuple[float | None, float | None, bool | None]:
        """Degrees Celsius, watts, and whether it is slowed down."""
        nvml = self._nvml
        heat: float | None = None
        power: float | None = None
        slowed: bool | None = None
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            heat = float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            power = nvml.nvmlDeviceGetPowerUsage(handle) / 1e3
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
            slowed = bool(int(reasons) & SLOWED)
        return heat, power, slowed


class Gpus:
    """Those that this peer may use. `kind` = "cuda" if its trainers are to, else "cpu"."""

    def __init__(self, kind: str = "cpu", read: Callable[[], Sequence[Gpu]] = tuple) -> None:
        self.kind, self._read, self._latest = kind, read, read()
        self._ended = threading.Event()
        if self._latest:
            threading.Thread(target=self._watch, name="gpu-figures", daemon=True).start()

    @property
    def offered(self) -> tuple[str, ...]:
        """What trainers may be given, by uuid."""
        return tuple(gpu.uuid for gpu in self._latest) if self.kind == "cuda" else ()

    def figures(self) -> tuple[dict[str, Any], ...]:
        """The newest, as the peer reports them."""
        return tuple({name: getattr(gpu, name) for name in REPORTED} for gpu in self._latest)

    @property
    def latest(self) -> Sequence[Gpu]:
        """The newest, with all that is known."""
        return self._latest

    def close(self) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(MEASURE_EVERY_S):
            self._latest = self._read()


NO_GPUS = Gpus()


def find(
    device: str,
    drive: Callable[[], Any] = Nvml,
    folder: Callable[[], Path] | None = None,
) -> Gpus:
    """The GPUs for `--device`; their figures are shared through a file in `folder()`.

    Raises Usage for another word, P2PError where "cuda" cannot be.
    """
    if device not in DEVICES:
        raise Usage(f"device is {device!r}: it must be one of {', '.join(DEVICES)}")
    try:
        driver = drive()
    except OSError as error:
        if device == "cuda":
            raise P2PError(
                f"--device cuda: no GPU here ({error}); start with auto or cpu"
            ) from error
        return Gpus()
    shown = visible(driver.read(), os.environ)
    missing = "no GPU here" if not shown else ""
    if not torch_has_cuda():
        missing = "the torch that is installed here has no CUDA"
    if device == "cuda" and missing:
        raise P2PError(f"--device cuda: {missing}; start with auto or cpu")

    reading: Callable[[], Sequence[Gpu]] = driver.read
    if folder is not None:
        reading = SharedReading(driver.read, folder() / "gpus.json", 0.9 * MEASURE_EVERY_S)

    def read() -> Sequence[Gpu]:
        every = reading()
        return tuple(every[number] for number in shown)

    return Gpus("cpu" if device == "cpu" or missing else "cuda", read)


def visible(found: Sequence[Gpu], environment: Mapping[str, str]) -> list[int]:
    """Which of them CUDA would show: as CUDA_VISIBLE_DEVICES says, by number or beginning of the
    uuid, up to the first that is none; all without it."""
    text = environment.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return list(range(len(found)))
    shown: list[int] = []
    for word in (word.strip() for word in text.split(",")):
        if word.isdecimal():
            fitting = [int(word)] if int(word) < len(found) else []
        else:
            fitting = [n for n, gpu in enumerate(found) if word and gpu.uuid.startswith(word)]
        if len(fitting) != 1 or fitting[0] in shown:
            break
        shown += fitting
    return shown


def torch_has_cuda() -> bool:
    """By torch's version file: the peer never imports torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        text = (Path(spec.origin).parent / "version.py").read_text()
    except OSError:
        return False
    return re.search(r"^cuda\b[^=]*=\s*['\"]", text, re.MULTILINE) is not None
