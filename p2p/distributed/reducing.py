"""torch's reductions as those of flat arrays: allreduce, reduce, reduce_scatter."""

from typing import Any

import numpy as np
import torch
from torch.distributed import ReduceOp

from collectives.plane import Group
from p2p.distributed import sparse
from p2p.distributed.calls import Calls, Tensors, as_list, as_lists
from p2p.distributed.tensors import Flat, check, flat, operation, reducible
from p2p.distributed.work import GroupWork


class Reducing(Calls):
    def allreduce(self, tensors: Any, opts: Any = None, timeout: Any = None) -> GroupWork:
        every = as_list(tensors)
        op = operation(reduce_op(opts))
        if every[0].layout is torch.sparse_coo:
            work = sparse.all_reduce_job(every[0], op)
            return self.submit("all_reduce", every, work, opts, timeout)
        return self._all_reduce("all_reduce", every, op, opts, timeout)

    def allreduce_coalesced(self, tensors: Tensors, opts: Any = None) -> GroupWork:
        return self._all_reduce("all_reduce", tensors, operation(reduce_op(opts)), opts)

    def _all_reduce(
        self, name: str, tensors: Tensors, op: str, opts: Any, timeout: Any = None
    ) -> GroupWork:
        check(tensors)
        flats = [reducible([tensor]) for tensor in tensors]
        for one in flats:
            check_reducible(one, op)

        def job(group: Group) -> None:
            for one in flats:
                with one.rounds(self.engine.room) as rounds:
                    for source, out in rounds:
                        group.all_reduce(source, out, op, one.number)

        return self.submit(name, tensors, job, opts, timeout)

    def reduce(
        self, tensors: Any, opts: Any = None, op: Any = None, timeout: Any = None
    ) -> GroupWork:
        every = as_list(tensors)
        check(every)
        root = opts if isinstance(opts, int) else opts.rootRank
        name = operation(op if op is not None else reduce_op(opts))
        one, is_root = reducible(every), self.engine.rank == root
        check_reducible(one, name)

        def job(group: Group) -> None:
            with one.rounds(self.engine.room, writes=is_root) as rounds:
                for source, out in rounds:
                    group.reduce(source, out if is_root else None, name, root, one.number)

        return self.submit("reduce", every, job, opts, timeout)

    def reduce_scatter(
        self, outputs: Any, inputs: Any, opts: Any = None, timeout: Any = None
    ) -> GroupWork:
        mine, every = as_list(outputs)[0], as_lists(inputs)[0]
        self.check_parts("reduce_scatter", every)
        return self._reduce_scatter(mine, every, opts, timeout)

    def _reduce_scatter(
        self, mine: torch.Tensor, parts: Tensors, opts: Any, timeout: Any = None
    ) -> GroupWork:
        check([mine, *parts])
        op = operation(reduce_op(opts))
        source, out = flat(parts), flat([mine], filled=False)
        check_reducible(source, op)
        start = sum(part.numel() for part in parts[: self.engine.rank])
        even = len({part.numel() for part in parts}) == 1

        def job(group: Group) -> None:
            source.ready()
            if even:
                group.reduce_scatter(source.array, out.array, op, source.number)
            else:
                total = np.empty_like(source.array)
                group.all_reduce(source.array, total, op, source.number)
                np.copyto(out.array, total[start : start + len(out.array)])
            out.commit()

        return self.submit("reduce_scatter", [mine], job, opts, timeout)

    def reduce_scatter_single(
        self, output: torch.Tensor, whole: torch.Tensor, opts: Any = None
    ) -> GroupWork:
        return self._reduce_scatter(output, self.cut(whole), opts)

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


def check_reducible(one: Flat, op: str) -> None:
    whole = one.array.dtype.kind in "biu" and one.number != "bfloat16"
    if one.number not in ("", "bfloat16"):
        raise ValueError(f"p2p moves {one.number} tensors, it cannot reduce them: pass .float()")
    if op in ("band", "bor", "bxor") and not whole:
        raise ValueError(f"{op} needs integers or booleans, not {one.array.dtype}")
    if op == "mean" and whole:
        raise ValueError("AVG needs floating-point tensors: use SUM and divide")


def reduce_op(opts: Any) -> Any:
    if opts is None:
        return ReduceOp.SUM
    return getattr(opts, "reduceOp", opts)
