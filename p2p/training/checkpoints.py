"""Writes this trainer's parts of checkpoints while training goes on: copied first, then written.

The copy goes into memory that is kept for the next one, laid out as the file will be. It is made
by a thread: the next step's forward and backward passes only read parameters and moments, so only
what they may change is copied at once, and the next update waits for the rest.
"""

import mmap
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from p2p.checkpoints.names import cut_evenly, majority, name_of, written_by
from p2p.storage.disk import PAGE_BYTES
from p2p.training import checkpoint
from p2p.training.blame import sentence
from p2p.training.checkpoint import Contents
from p2p.training.run import Run, common
from p2p.training.state import state_hash
from p2p.training.stream import Message

# Without --checkpoint-every: at the end of an epoch if the last one is so old, and in the midst of
# an epoch if it is so much older.
EPOCH_CHECKPOINT_S = 5.0
CHECKPOINT_S = 60.0
ALIGNMENT = PAGE_BYTES  # of a part, which is written from where it lies
WRITER_NICENESS = 10  # hardly any processor, and the disk should not wait for it
# Two passes over all of it, and only another checkpoint waits: a tenth of a core beside a trainer.
HASHER_NICENESS = 15


def is_due(before: int, step: int, every: int | None, ends_epoch: bool, age_s: float) -> bool:
    """Whether a checkpoint is due after the round from `before` to `step`, the last being `age_s`
    old: with `every`, when a multiple of it was reached or passed."""
    if every is not None:
        return step // every > before // every
    return age_s >= (EPOCH_CHECKPOINT_S if ends_epoch else CHECKPOINT_S)


class Memory:
    """Bytes that are used again: the first use of fresh pages costs more than ten copies."""

    def __init__(self) -> None:
        self._all = memoryview(b"")

    def room(self, size: int) -> memoryview:
        """What was there before is lost."""
        if len(self._all) < size:
            self._all = memoryview(b"")  # first, so that there is room for the larger one
            made = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            made.madvise(mmap.MADV_HUGEPAGE)
            self._all = memoryview(made)
        return self._all[:size]


def share(tensors: Mapping[str, Tensor], number: int, count: int) -> dict[str, Tensor]:
    """The tensors of one part of `count`."""
    names = sorted(tensors)
    first, last = cut_evenly([tensors[name].nbytes for name in names], count)[number]
    return {name: tensors[name] for name in names[first:last]}


class Copy:
    """Parts by number, each laid out as its file will be, and the `rest` of the state.

    What is not `late` is copied at once, all else by `finish`.
    """

    def __init__(
        self,
        memory: Memory,
        parts: Mapping[int, Mapping[str, Tensor]],
        rest: Mapping[str, Tensor],
        late: Callable[[str], bool],
    ) -> None:
        groups = [*parts.values(), rest]
        laid = [checkpoint.places(group) for group in groups]
        sizes = [entries[-1].end if entries else 0 for entries in laid]
        rooms = [size + -size % ALIGNMENT for size in sizes]
        room = memory.room(sum(rooms) or 1)
        starts = [sum(rooms[:index]) for index in range(len(rooms))]
        spans = [room[at : at + size] for at, size in zip(starts, sizes, strict=True)]
        self.parts = list(zip(parts, laid, spans, strict=False))  # but for the rest
        self.tensors: dict[str, Tensor] = {}
        self._late: list[tuple[Tensor, Tensor]] = []
        for group, entries, span in zip(groups, laid, spans, strict=True):
            for entry in entries:
                source = group[entry.name].detach()
                target = _placed(span[entry.begin : entry.end], source)
                self.tensors[entry.name] = target
                if late(entry.name):
                    self._late.append((target, source))
                else:
                    target.copy_(source)

    def finish(self) -> None:
        for target, source in self._late:
            target.copy_(source)


def _placed(raw: memoryview, like: Tensor) -> Tensor:
    """A tensor of this type and shape in these bytes."""
    if not len(raw):
        return torch.empty(like.shape, dtype=like.dtype)
    return torch.frombuffer(raw, dtype=like.dtype).view(like.shape)


class Checkpoints:
    """One at a time; a second waits for the first. Each says how many wishes for one (`asks`) had
    been heard when it was begun: those it answers."""

    def __init__(
        self, folder: Path, run: Run, send: Callable[[Message], None], asks: Callable[[], int]
    ) -> None:
        self._folder, self._run, self._send, self._asks = folder, run, send, asks
        self._thread: threading.Thread | None = None
        self._copied = threading.Event()
        self._copied.set()
        self._memory = Memory()
        self._final = (-1, False)
        self._started_at = time.monotonic()
        checkpoint.sweep(folder)

    def is_due(self, before: int, step: int) -> bool:
        """After the round from step `before` to `step`."""
        every, ends_epoch = self._run.spec.checkpoint_every, self._run.schedule.ends_epoch(step)
        return is_due(before, step, every, ends_epoch, time.monotonic() - self._started_at)

    def start(self, generation: int, rank: int, trainers: int) -> None:
        """Write this trainer's parts of the newest whole state in the background.

        Call `wait_copied` before the state changes. A failure is reported as "checkpoint_failed";
        training goes on.
        """
        told = {"generation": generation, "count": trainers, "writers": trainers}
        self._begin(told, rank, written_by(rank, trainers))

    def start_whole(self, generation: int) -> None:
        """The same of all of it, in one file, by this trainer alone, the first of its ring."""
        self._begin({"generation": generation, "count": 1, "writers": 1}, 0, [0])

    def write_final(self, generation: int, rank: int, trainers: int) -> None:
        """All of it in one file, now, if this trainer has to and did not yet.

        Raises CheckpointFailed.
        """
        self.wait()
        final = self._run.position.step, rank < majority(trainers)
        if self._final != final:
            told = {"generation": generation, "count": 1, "writers": trainers}
            work = self._prepare(told, rank, written_by(rank, trainers, whole=True))
            work.copy.finish()
            self._tell(work, self._store(work))
            self._final = final

    def wait_copied(self) -> None:
        """Until the state may change again."""
        self._copied.wait()

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _begin(self, told: Message, rank: int, numbers: list[int]) -> None:
        self.wait()
        self._started_at = time.monotonic()
        work = self._prepare(told, rank, numbers)
        self._copied.clear()
        self._thread = threading.Thread(target=self._try, args=(work,), name="checkpoint")
        self._thread.start()
        if not self._run.strategy.updates_only_in_apply:
            self.wait_copied()

    def _prepare(self, told: Message, rank: int, numbers: list[int]) -> "_Work":
        began = time.monotonic()
        tensors, metadata, digest = self._run.whole()
        count = told["count"]
        parts = {number: share(tensors, number, count) for number in numbers}
        taken = {name for part in parts.values() for name in part}
        # The hash of the state takes all of it; a mark of this step may have made it already.
        rest = {} if digest else {name: t for name, t in tensors.items() if name not in taken}
        own = self._run.own()
        if own:
            parts[count + rank] = own
        copy = Copy(self._memory, parts, rest, self._run.is_steady)
        told = {**told, "step": int(metadata["step"]), "asks": self._asks()}
        return _Work(copy, metadata, told, digest, began)

    def _try(self, work: "_Work") -> None:
        try:
            try:
                work.copy.finish()  # an update may wait for it
            finally:
                self._copied.set()
            _yield_to_training(WRITER_NICENESS)
            stored = self._store(work)
            # Only now: it takes longer than the disk, and may not have training's processor.
            _yield_to_training(HASHER_NICENESS)
            self._tell(work, stored)
        except Exception as error:  # whatever it is, training goes on and the peer hears of it
            failed = {"step": work.told["step"], "error": sentence(error)}
            self._send({"kind": "checkpoint_failed", **failed})

    def _store(self, work: "_Work") -> list[tuple[Contents, Message]]:
        """All parts durable, and what is to be told of each but for its hash."""
        stored: list[tuple[Contents, Message]] = []
        step, count = work.told["step"], work.told["count"]
        for number, entries, data in work.copy.parts:
            path = self._folder / name_of(step, number, count)
            contents = Contents.of(entries, data, work.metadata)
            checkpoint.write(path, contents)
            seconds = time.monotonic() - work.began
            told = {"number": number, "path": str(path), "bytes": contents.size}
            stored.append((contents, {**told, "seconds": seconds}))
        return stored

    def _tell(self, work: "_Work", stored: list[tuple[Contents, Message]]) -> None:
        parts = [{**told, "digest": contents.digest} for contents, told in stored]
        digest = work.state_hash or state_hash(common(work.copy.tensors))
        self._send({"kind": "checkpoint", **work.told, "state_hash": digest, "parts": parts})


def _yield_to_training(niceness: int) -> None:
    """Linux keeps a priority for every thread; those that it starts have the same. It can only be
    given up, so somebody nicer than that already stays so."""
    me = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, me, max(niceness, os.getpriority(os.PRIO_PROCESS, me)))


@dataclass(frozen=True)
class _Work:
    """What is to be written, and what to say then. `began` = monotonic seconds."""

    copy: Copy
    metadata: Mapping[str, Any]
    told: Message
    state_hash: str | None
    began: float
