"""torch's collectives as moves of flat arrays: what each call takes, checks and writes.

Names and arguments are torch's, which calls some of these methods from C++ and some from Python,
with tensors alone or in lists, with options or without.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch.distributed import ReduceOp

from collectives.plane import Group
from p2p.distributed import sparse
from p2p.distributed.engine import Engine
from p2p.distributed.tensors import Flat, check, flat, operation
from p2p.distributed.work import GroupWork

Tensors = Sequence[torch.Tensor]


class Collectives:
    """Dense CPU tensors of any type; sparse ones in allreduce.

    Arguments that do not fit raise ValueError at once; all else is told by the handle.
    """

    _engine: Engine

    def allreduce(self, tensors: Any, opts: Any = None, timeout: Any = None) -> GroupWork:
        every = _as_list(tensors)
        op = operation(_reduce_op(opts))
        if every[0].layout is torch.sparse_coo:
            work = sparse.all_reduce_job(every[0], op)
            return self._submit("all_reduce", every, work, opts, timeout)
        return self._all_reduce("all_reduce", every, op, opts, timeout)

    def allreduce_coalesced(self, tensors: Tensors, opts: Any = None) -> GroupWork:
        return self._all_reduce("all_reduce", tensors, operation(_reduce_op(opts)), opts)

    def _all_reduce(
        self, name: str, tensors: Tensors, op: str, opts: Any, timeout: Any = None
    ) -> GroupWork:
        check(tensors)
        flats = [flat([tensor]) for tensor in tensors]
        for one in flats:
            _check_reducible(one, op)

        def job(group: Group) -> None:
            for one in flats:
                with self._engine.kept(one.array) as source:
                    group.all_reduce(source, one.array, op, one.number)
                one.commit()

        return self._submit(name, tensors, job, opts, timeout)

    def reduce(
        self, tensors: Any, opts: Any = None, op: Any = None, timeout: Any = None
    ) -> GroupWork:
        every = _as_list(tensors)
        check(every)
        root = opts if isinstance(opts, int) else opts.rootRank
        name = operation(op if op is not None else _reduce_op(opts))
        one = flat(every)
        _check_reducible(one, name)

        def job(group: Group) -> None:
            with self._engine.kept(one.array) as source:
                out = one.array if self._engine.rank == root else None
                group.reduce(source, out, name, root, one.number)
            one.commit()

        return self._submit("reduce", every, job, opts, timeout)

    def broadcast(self, tensors: Any, opts: Any = None, timeout: Any = None) -> GroupWork:
        every = _as_list(tensors)
        check(every)
        root = opts if isinstance(opts, int) else opts.rootRank
        one = flat(every)

        def job(group: Group) -> None:
            group.broadcast(one.array, root)
            one.commit()

        return self._submit("broadcast", every, job, opts, timeout)

    def allgather(
        self, outputs: Any, inputs: Any, opts: Any = None, timeout: Any = None
    ) -> GroupWork:
        every, mine = _as_lists(outputs)[0], _as_list(inputs)
        return self._all_gather("all_gather", every, mine[0], opts, timeout)

    def _all_gather(
        self, name: str, outputs: Tensors, mine: torch.Tensor, opts: Any, timeout: Any = None
    ) -> GroupWork:
        self._check_parts(name, outputs)
        check([*outputs, mine])
        _check_same(name, outputs, mine)
        source, out = flat([mine]), flat(outputs, filled=False)
        lengths = [output.numel() for output in outputs]

        def job(group: Group) -> None:
            if len(set(lengths)) == 1:
                group.all_gather_arrays(source.array, out.array)
            else:
                repeated = np.tile(source.array, len(lengths))
                sends = [source.array.size] * len(lengths)
                group.all_to_all(repeated, out.array, sends, lengths)
            out.commit()

        return self._submit(name, outputs, job, opts, timeout)

    def all_gather_single(
        self, output: torch.Tensor, mine: torch.Tensor, opts: Any = None
    ) -> GroupWork:
        return self._all_gather("all_gather", self._cut(output), mine, opts)

    _allgather_base = all_gather_single

    def all_gather_single_coalesced(
        self, outputs: Tensors, inputs: Tensors, opts: Any = None
    ) -> GroupWork:
        lists = [self._cut(output) for output in outputs]
        return self.allgather_coalesced(_by_rank(lists), inputs, opts)

    allgather_into_tensor_coalesced = all_gather_single_coalesced

    def allgather_coalesced(
        self, outputs: Sequence[Tensors], inputs: Tensors, opts: Any = None
    ) -> GroupWork:
        """outputs[rank][i] becomes that rank's inputs[i]."""
        works = [
            self._all_gather("all_gather", list(outs), mine, opts)
            for outs, mine in zip(zip(*outputs, strict=True), inputs, strict=True)
        ]
        return works[-1]

    def gather(self, outputs: Any, inputs: Any, opts: Any = None, timeout: Any = None) -> GroupWork:
        mine = _as_list(inputs)
        root = opts if isinstance(opts, int) else opts.rootRank
        every = _as_lists(outputs)[0] if outputs else []
        check([*every, *mine])
        if self._engine.rank == root:
            self._check_parts("gather", every)
            _check_same("gather", every, mine[0])
        source, out = flat(mine), flat(every, filled=False)

        def job(group: Group) -> None:
            group.gather(source.array, out.array if every else None, root)
            out.commit()

        return self._submit("gather", every, job, opts, timeout)

    def scatter(
        self, outputs: Any, inputs: Any, opts: Any = None, timeout: Any = None
    ) -> GroupWork:
        mine = _as_list(outputs)
        root = opts if isinstance(opts, int) else opts.rootRank
        every = _as_lists(inputs)[0] if inputs else []
        check([*every, *mine])
        if self._engine.rank == root:
            self._check_parts("scatter", every)
            _check_same("scatter", every, mine[0])
        source, out = flat(every), flat(mine, filled=False)

        def job(group: Group) -> None:
            group.scatter(source.array if every else None, out.array, root)
            out.commit()

        return self._submit("scatter", mine, job, opts, timeout)

    def reduce_scatter(
        self, outputs: Any, inputs: Any, opts: Any = None, timeout: Any = None
    ) -> GroupWork:
        mine, every = _as_list(outputs)[0], _as_lists(inputs)[0]
        self._check_parts("reduce_scatter", every)
        return self._reduce_scatter(mine, every, opts, timeout)

    def _reduce_scatter(
        self, mine: torch.Tensor, parts: Tensors, opts: Any, timeout: Any = None
    ) -> GroupWork:
        check([mine, *parts])
        op = operation(_reduce_op(opts))
        source, out = flat(parts), flat([mine], filled=False)
        _check_reducible(source, op)
        start = sum(part.numel() for part in parts[: self._engine.rank])
        even = len({part.numel() for part in parts}) == 1

        def job(group: Group) -> None:
            if even:
                group.reduce_scatter(source.array, out.array, op, source.number)
            else:
                total = np.empty_like(source.array)
                group.all_reduce(source.array, total, op, source.number)
                np.copyto(out.array, total[start : start + len(out.array)])
            out.commit()

        return self._submit("reduce_scatter", [mine], job, opts, timeout)

    def reduce_scatter_single(
        self, output: torch.Tensor, whole: torch.Tensor, opts: Any = None
    ) -> GroupWork:
        return self._reduce_scatter(output, self._cut(whole), opts)

    _reduce_scatter_base = reduce_scatter_single

    def reduce_scatter_single_coalesced(
        self, outputs: Tensors, inputs: Tensors, opts: Any = None
    ) -> GroupWork:
        works = [
            self.reduce_scatter_single(output, whole, opts)
            for output, whole in zip(outputs, inputs, strict=True)
        ]
        return works[-1]

    reduce_scatter_tensor_coalesced = reduce_scatter_single_coalesced

    def all_to_all_single(
        self,
        output: torch.Tensor,
        whole: torch.Tensor,
        output_splits: Sequence[int],
        input_splits: Sequence[int],
        opts: Any = None,
        timeout: Any = None,
    ) -> GroupWork:
        """Splits are rows of dimension 0; none at all: equal ones."""
        check([output, whole])
        out, source = flat([output], filled=False), flat([whole])
        receives = self._elements(output, output_splits)
        sends = self._elements(whole, input_splits)

        def job(group: Group) -> None:
            group.all_to_all(source.array, out.array, sends, receives)
            out.commit()

        return self._submit("all_to_all", [output], job, opts, timeout)

    alltoall_base = all_to_all_single

    def alltoall(
        self, outputs: Tensors, inputs: Tensors, opts: Any = None, timeout: Any = None
    ) -> GroupWork:
        check([*outputs, *inputs])
        self._check_parts("all_to_all", outputs)
        self._check_parts("all_to_all", inputs)
        source, out = flat(inputs), flat(outputs, filled=False)
        sends, receives = [one.numel() for one in inputs], [one.numel() for one in outputs]

        def job(group: Group) -> None:
            group.all_to_all(source.array, out.array, sends, receives)
            out.commit()

        return self._submit("all_to_all", outputs, job, opts, timeout)

    def barrier(self, opts: Any = None, timeout: Any = None) -> GroupWork:
        return self._submit("barrier", [], Group.barrier, opts, timeout)

    def _submit(
        self, name: str, outputs: Tensors, job: Any, opts: Any, timeout: Any = None
    ) -> GroupWork:
        own = opts if isinstance(opts, timedelta) else timeout or getattr(opts, "timeout", None)
        if own is None or own <= timedelta(0):  # torch says "unset" by a negative time
            own = self._engine.timeout
        return self._engine.submit(name, outputs, job, own)

    def _cut(self, whole: torch.Tensor) -> list[torch.Tensor]:
        """One equal part per rank, of the memory in order."""
        if whole.numel() % self._engine.size or not whole.is_contiguous():
            parts = f"{self._engine.size} equal parts"
            raise ValueError(
                f"a contiguous tensor of {parts} is needed, not one of shape {tuple(whole.shape)}"
            )
        return (
            list(whole.detach().view(-1).chunk(self._engine.size))
            if whole.numel()
            else [whole.detach().view(-1) for _ in range(self._engine.size)]
        )

    def _elements(self, whole: torch.Tensor, splits: Sequence[int]) -> list[int]:
        """How many of `whole`'s elements each rank's rows have."""
        size, rows = self._engine.size, whole.shape[0] if whole.dim() else 1
        lengths = list(splits) or [rows // size] * size
        if sum(lengths) != rows or len(lengths) != size:
            raise ValueError(f"{rows} rows cannot be split among {size} ranks as {lengths}")
        width = whole.numel() // rows if rows else 0
        return [length * width for length in lengths]

    def _check_parts(self, name: str, parts: Sequence[Any]) -> None:
        if len(parts) != self._engine.size:
            raise ValueError(
                f"{name} needs {self._engine.size} tensors, one per rank, not {len(parts)}"
            )


def _check_same(name: str, every: Tensors, mine: torch.Tensor) -> None:
    for one in every:
        if one.dtype != mine.dtype:
            raise ValueError(f"{name} needs tensors of one type, not {one.dtype} and {mine.dtype}")


def _check_reducible(one: Flat, op: str) -> None:
    whole = one.array.dtype.kind in "biu" and one.number != "bfloat16"
    if one.number not in ("", "bfloat16"):
        raise ValueError(f"p2p moves {one.number} tensors, it cannot reduce them: pass .float()")
    if op in ("band", "bor", "bxor") and not whole:
        raise ValueError(f"{op} needs integers or booleans, not {one.array.dtype}")
    if op == "mean" and whole:
        raise ValueError("AVG needs floating-point tensors: use SUM and divide")


def _reduce_op(opts: Any) -> Any:
    if opts is None:
        return ReduceOp.SUM
    return getattr(opts, "reduceOp", opts)


def _as_list(tensors: Any) -> list[torch.Tensor]:
    return [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)


def _as_lists(lists: Any) -> list[list[torch.Tensor]]:
    """One list per tensor that goes with it; torch also passes the list alone."""
    return [list(lists)] if isinstance(lists[0], torch.Tensor) else [list(one) for one in lists]


def _by_rank(lists: Sequence[Tensors]) -> list[list[torch.Tensor]]:
    return [list(parts) for parts in zip(*lists, strict=True)]
