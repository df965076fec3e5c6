"""torch's moves of tensors as those of flat arrays: broadcast, gather, scatter and their like."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from collectives.plane import Group
from p2p.distributed.calls import Calls, Tensors, as_list, as_lists, by_rank
from p2p.distributed.tensors import check, flat
from p2p.distributed.work import GroupWork


class Moving(Calls):
    def broadcast(self, tensors: Any, opts: Any = None, timeout: Any = None) -> GroupWork:
        every = as_list(tensors)
        check(every)
        root = opts if isinstance(opts, int) else opts.rootRank
        one = flat(every, filled=self.engine.rank == root)

        def job(group: Group) -> None:
            one.ready()
            group.broadcast(one.array, root)
            one.commit()

        return self.submit("broadcast", every, job, opts, timeout)

    def allgather(
        self, outputs: Any, inputs: Any, opts: Any = None, timeout: Any = None
    ) -> GroupWork:
        every, mine = as_lists(outputs)[0], as_list(inputs)
        return self._all_gather("all_gather", every, mine[0], opts, timeout)

    def _all_gather(
        self, name: str, outputs: Tensors, mine: torch.Tensor, opts: Any, timeout: Any = None
    ) -> GroupWork:
        self.check_parts(name, outputs)
        check([*outputs, mine])
        check_same(name, outputs, mine)
        source, out = flat([mine]), flat(outputs, filled=False)
        lengths = [output.numel() for output in outputs]

        def job(group: Group) -> None:
            source.ready()
            if len(set(lengths)) == 1:
                group.all_gather_arrays(source.array, out.array)
            else:
                repeated = np.tile(source.array, len(lengths))
                sends = [source.array.size] * len(lengths)
                group.all_to_all(repeated, out.array, sends, lengths)
            out.commit()

        return self.submit(name, outputs, job, opts, timeout)

    def all_gather_single(
        self, output: torch.Tensor, mine: torch.Tensor, opts: Any = None
    ) -> GroupWork:
        return self._all_gather("all_gather", self.cut(output), mine, opts)

    _allgather_base = all_gather_single

    def all_gather_single_coalesced(
        self, outputs: Tensors, inputs: Tensors, opts: Any = None
    ) -> GroupWork:
        lists = [self.cut(output) for output in outputs]
        return self.allgather_coalesced(by_rank(lists), inputs, opts)

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
        mine = as_list(inputs)
        root = opts if isinstance(opts, int) else opts.rootRank
        every = as_lists(outputs)[0] if outputs else []
        check([*every, *mine])
        if self.engine.rank == root:
            self.check_parts("gather", every)
            check_same("gather", every, mine[0])
        source, out = flat(mine), flat(every, filled=False)

        def job(group: Group) -> None:
            source.ready()
            group.gather(source.array, out.array if every else None, root)
            out.commit()

        return self.submit("gather", every, job, opts, timeout)

    def scatter(
        self, outputs: Any, inputs: Any, opts: Any = None, timeout: Any = None
    ) -> GroupWork:
        mine = as_list(outputs)
        root = opts if isinstance(opts, int) else opts.rootRank
        every = as_lists(inputs)[0] if inputs else []
        check([*every, *mine])
        if self.engine.rank == root:
            self.check_parts("scatter", every)
            check_same("scatter", every, mine[0])
        source, out = flat(every), flat(mine, filled=False)

        def job(group: Group) -> None:
            source.ready()
            group.scatter(source.array if every else None, out.array, root)
            out.commit()

        return self.submit("scatter", mine, job, opts, timeout)

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
            source.ready()
            group.all_to_all(source.array, out.array, sends, receives)
            out.commit()

        return self.submit("all_to_all", [output], job, opts, timeout)

    alltoall_base = all_to_all_single

    def alltoall(
        self, outputs: Tensors, inputs: Tensors, opts: Any = None, timeout: Any = None
    ) -> GroupWork:
        check([*outputs, *inputs])
        self.check_parts("all_to_all", outputs)
        self.check_parts("all_to_all", inputs)
        source, out = flat(inputs), flat(outputs, filled=False)
        sends, receives = [one.numel() for one in inputs], [one.numel() for one in outputs]

        def job(group: Group) -> None:
            source.ready()
            group.all_to_all(source.array, out.array, sends, receives)
            out.commit()

        return self.submit("all_to_all", outputs, job, opts, timeout)

    def barrier(self, opts: Any = None, timeout: Any = None) -> GroupWork:
        return self.submit("barrier", [], Group.barrier, opts, timeout)

    def _elements(self, whole: torch.Tensor, splits: Sequence[int]) -> list[int]:
        """How many of `whole`'s elements each rank's rows have."""
        size, rows = self.engine.size, whole.shape[0] if whole.dim() else 1
        lengths = list(splits) or [rows // size] * size
        if sum(lengths) != rows or len(lengths) != size:
            raise ValueError(f"{rows} rows cannot be split among {size} ranks as {lengths}")
        width = whole.numel() // rows if rows else 0
        return [length * width for length in lengths]


def check_same(name: str, every: Tensors, mine: torch.Tensor) -> None:
    for one in every:
        if one.dtype != mine.dtype:
            raise ValueError(f"{name} needs tensors of one type, not {one.dtype} and {mine.dtype}")
