"""From a Load to an engine that answers: the model, its weights, its caches, checked."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from p2p.checkpoints.safetensors_file import LENGTH, header_bytes, parse
from p2p.checkpoints.safetensors_file import Malformed as MalformedFile
from p2p.errors import P2PError
from p2p.serving.kernels import native
from p2p.serving.memory import check_weights, streams_that_fit
from p2p.serving.messages import Load, Ready
from p2p.serving.models.engine import Engine, Served, shape_of
from p2p.serving.models.huggingface import FolderRows
from p2p.serving.models.rows import NativeRows, Rows, linear_of
from p2p.serving.models.tiled import TiledRows
from p2p.training import task
from p2p.training.blame import user_code
from p2p.training.device import CPU, take
from p2p.training.spec import parse as parse_job
from p2p.training.state import state_hash

RANDOM_FILLS = (Tensor.normal_, Tensor.uniform_)
NOT_THE_MODELS = ("optimizer.", "strategy.")


def load(order: Load) -> tuple[Engine, Ready]:
    """Raises P2PError, TaskFailed or Unfit, each with one sentence."""
    device = take(order.device)
    # More threads would cut element-wise functions into other pieces, and give other bits.
    torch.set_num_threads(1)
    # All of it is written before it is read; filling it first takes a third of the layout's time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    rows = rows_for(device)
    model, served = (_of_folder if order.folder else _of_job)(order, device, rows)
    shape = shape_of(served)
    slots = streams_that_fit(order.name, shape.bytes(), order.streams, free_bytes(order, device))
    tensors = model.state_dict()
    with ThreadPoolExecutor(1) as beside:  # hashing needs no interpreter
        digest = beside.submit(digest_of, tensors, rows)
        engine = Engine(served, rows, slots, device)
        engine.check()
    ready = Ready(
        order.name,
        parameters=sum(p.numel() for p in model.parameters()),
        bytes=sum(t.nbytes for t in tensors.values()),
        context=served.context,
        digest=digest.result(),
        streams=slots,
    )
    return engine, ready


def rows_for(device: torch.device) -> Rows:
    library = native.load() if device == CPU else None
    return NativeRows(library) if library else TiledRows(device)


def free_bytes(order: Load, device: torch.device) -> int:
    if device != CPU:
        free = int(torch.cuda.mem_get_info(device)[0])
    else:
        free = int(psutil.virtual_memory().available)
    return free if order.memory_bytes is None else min(free, order.memory_bytes)


def digest_of(tensors: Mapping[str, Tensor], rows: Rows) -> str:
    """Of all that an answer depends on beside the request: the weights, and how they are computed
    with, so that no answer goes on at a replica that computes other bits."""
    whole = hashlib.sha256(state_hash(tensors).encode())
    way = rows.name, torch.__version__, torch.backends.cpu.get_cpu_capability()
    whole.update("\n".join(way).encode())
    return f"sha256:{whole.hexdigest()}"


def _of_job(order: Load, device: torch.device, rows: Rows) -> tuple[nn.Module, Served]:
    assert order.job is not None
    check_weights(order.name, _model_bytes(order.weights), free_bytes(order, device))
    spec = parse_job(order.job)
    user_task = task.create(task.load(spec, order.source_dir), spec)
    if not callable(getattr(user_task.user, "serve", None)):
        raise P2PError(
            f"{spec.task} cannot be served: its task has no `serve`, which says how its model "
            "answers (docs/serving.md)"
        )
    with NoFirstValues():
        model = user_task.model().eval()
    _fill(model, order.weights)
    model.to(device)
    with user_code(user_task.file):
        return model, user_task.user.serve(model, linear_of(rows))


def _of_folder(order: Load, device: torch.device, rows: Rows) -> tuple[nn.Module, Served]:
    assert order.folder is not None
    found = [str(path) for path in sorted(Path(order.folder).glob("*.safetensors"))]
    check_weights(order.name, _model_bytes(tuple(found)), free_bytes(order, device))
    served = FolderRows(order.folder, rows, device)
    return served.model, served


class NoFirstValues(TorchFunctionMode):
    """Parameters are not filled with random numbers, as all get their weights from the files.

    It is a quarter of the time that a model of 100 MB takes to be ready.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func in RANDOM_FILLS or getattr(func, "__module__", "") == nn.init.__name__:
            filled = args[0] if args else named.get("tensor")
            if isinstance(filled, nn.Parameter):
                return filled
        return func(*args, **named)


def _fill(model: nn.Module, paths: tuple[str, ...]) -> None:
    """The model gets its weights from the files of one checkpoint."""
    found: dict[str, Tensor] = {}
    for path in paths:
        try:
            found |= load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise P2PError(f"cannot read the weights in {path}: {error}") from error
    found = {n: t for n, t in found.items() if not n.startswith(NOT_THE_MODELS)}
    own = model.state_dict()
    shared = {own[name].data_ptr() for name in found.keys() & own.keys()}
    missing = [n for n in own.keys() - found.keys() if own[n].data_ptr() not in shared]
    if missing:
        raise P2PError(f"the checkpoint has no {min(missing)}: it is of another model or not whole")
    try:
        model.load_state_dict(found, strict=False)
    except RuntimeError as error:
        raise P2PError(
            f"the checkpoint is of another model: {str(error).split(': ')[-1]}"
        ) from error


def _model_bytes(paths: tuple[str, ...]) -> int:
    """Of the model's tensors in these files, by their headers."""
    total = 0
    for path in paths:
        try:
            with Path(path).open("rb") as file:
                first = file.read(LENGTH.size)
                entries, _ = parse(first + file.read(header_bytes(first) - len(first)))
        except OSError as error:
            raise P2PError(f"cannot read the weights in {path}: {error.strerror}") from error
        except MalformedFile as error:
            raise P2PError(f"{path} has no weights: {error}") from error
        mine = [entry for entry in entries if not entry.name.startswith(NOT_THE_MODELS)]
        total += sum(entry.end - entry.begin for entry in mine)
    return total
