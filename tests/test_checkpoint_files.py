"""The files of a checkpoint: who writes what, whole or not at all, and known again."""

import contextlib
import errno
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from p2p.checkpoints import safetensors_file
from p2p.checkpoints.names import TEMPORARY, cut_evenly, majority, name_of, step_of, written_by
from p2p.checkpoints.shelf import FolderShelf
from p2p.storage.disk import FLUSH_BYTES
from p2p.training import checkpoint
from p2p.training.checkpoint import CheckpointFailed, Contents, digest_of
from p2p.training.checkpoints import Checkpoints, Copy, Memory, share
from p2p.training.going_back import newest_complete
from p2p.training.state import state_hash
from tests.test_training_gradients import Plain
from tests.training_fakes import new_run, steps


@pytest.mark.parametrize("trainers", range(1, 9))
def test_any_majority_has_every_part(trainers: int) -> None:
    own = [set(written_by(rank, trainers)) for rank in range(trainers)]
    least = majority(trainers)
    assert all(len(numbers) == least for numbers in own)
    for lost in range(trainers - least + 1):
        for first in range(trainers):
            gone = {(first + i) % trainers for i in range(lost)}
            left = [numbers for rank, numbers in enumerate(own) if rank not in gone]
            assert set().union(*left) == set(range(trainers))
    whole = [rank for rank in range(trainers) if written_by(rank, trainers, whole=True)]
    assert whole == list(range(least))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(1, 8))
def test_parts_are_contiguous_and_about_even(sizes: list[int], count: int) -> None:
    ranges = cut_evenly(sizes, count)
    assert [n for first, last in ranges for n in range(first, last)] == list(range(len(sizes)))
    share = sum(sizes) / count
    for first, last in ranges:
        assert sum(sizes[first:last]) <= share + max(sizes, default=0)


def test_names_tell_the_step() -> None:
    assert name_of(40, 0, 1) == "step-00000040.safetensors"
    assert name_of(40, 1, 3) == "step-00000040.part-2-of-3.safetensors"
    assert name_of(40, 4, 3) == "step-00000040.shards-2-of-3.safetensors"
    assert (
        step_of(name_of(40, 4, 3)) == step_of(name_of(40, 1, 3)) == step_of(name_of(40, 0, 1)) == 40
    )
    assert step_of(".new-step-00000040.safetensors.7") is step_of("notes.txt") is None


def test_the_newest_checkpoint_that_all_have_together() -> None:
    a = [[20, 2, "h", [0]], [10, 2, "h", [0, 1]]]
    b = [[20, 2, "h", [1]], [30, 1, "h", []]]
    assert newest_complete([a, b], above=0) == (20, 2, "h")
    assert newest_complete([a, b[1:]], above=0) == (10, 2, "h")
    assert newest_complete([a, b], above=20) is None
    odd = [[20, 2, "other", [1]]]
    assert newest_complete([a[:1], odd], above=0) is None, "parts of two states are no state"


def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "flags": torch.tensor([True, False, True]),
        "half": torch.rand(3, generator=generator).to(torch.bfloat16),
        "layer.weight": torch.rand(40, 7, generator=generator),
        "layer.bias": torch.rand(7, generator=generator)[::2],
        "scalar": torch.tensor(5),
        "empty": torch.zeros(0, 3),
    }


def files(tensors: dict[str, Tensor], count: int, memory: Memory | None = None) -> list[Contents]:
    parts = {n: share(tensors, n, count) for n in range(count - 1)}
    rest = share(tensors, count - 1, count)
    late = "layer"
    copy = Copy(memory or Memory(), parts, rest, late=lambda name: name.startswith(late))
    copy.finish()
    assert state_hash(copy.tensors) == state_hash(tensors)
    last = Copy(Memory(), {count - 1: rest}, {}, late=lambda name: False)
    return [Contents.of(*each[1:], {"step": 3}) for each in (*copy.parts, *last.parts)]


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_parts_load_without_our_code(tmp_path: Path, count: int) -> None:
    tensors, memory = state(), Memory()
    files({name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, count, memory)
    found: dict[str, Tensor] = {}
    for number, contents in enumerate(files(tensors, count, memory)):
        path = tmp_path / name_of(3, number, count)
        checkpoint.write(path, contents)
        data = path.read_bytes()
        assert len(data) == contents.size
        assert contents.digest == digest_of(data)
        found |= load_file(path)
        entries, metadata = safetensors_file.parse(data[: safetensors_file.header_bytes(data[:8])])
        assert metadata == {"format": "pt", "step": "3"}
        assert {entry.name for entry in entries} <= set(tensors)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    "head",
    [
        b"",
        struct.pack("<Q", 1 << 40),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b'{"a": {}}',
        safetensors_file.header([safetensors_file.Entry("a", "F32", (1,), 4, 8)], {}),
    ],
)
def test_what_is_no_header_is_malformed(head: bytes) -> None:
    with pytest.raises(safetensors_file.Malformed):
        safetensors_file.parse(head[: safetensors_file.header_bytes(head[:8])])


# -- whole or not at all -------------------------------------------------------------------------


WRITE_BYTES_MAX = 3 << 20  # a disk may take less than it is given


class Crash(BaseException):
    """The machine ends here: nothing after it runs, not even what tidies up."""


CALLS = ("open", "write", "fsync", "close", "posix_fadvise", "replace")


def crashing(monkeypatch: pytest.MonkeyPatch, after: int, how: BaseException) -> list[str]:
    """Every call that touches the disk is noted; the one numbered `after` raises instead."""
    seen: list[str] = []

    def wrap(name: str, real: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(name)
        if len(seen) > after:
            raise how
        if name == "write":
            return real(args[0], args[1][:WRITE_BYTES_MAX])
        return real(*args, **kwargs)

    for name in CALLS:
        owner: Any = Path if name == "replace" else os
        real = getattr(owner, name)
        if name == "replace":
            monkeypatch.setattr(Path, name, lambda path, to, r=real: wrap("replace", r, path, to))
        else:
            monkeypatch.setattr(os, name, partial(wrap, name, real))
    return seen


def large(begin: int = 0) -> Contents:
    """`begin` = 0: laid out so that it may go past the cache."""
    data = Memory().room(FLUSH_BYTES + 1000)[begin:]
    data[:] = np.arange(len(data), dtype=np.uint8).data
    return Contents.of([], data, {})


@pytest.mark.parametrize("begin", [0, 1])
def test_what_is_there_is_whole_wherever_the_machine_ends(tmp_path: Path, begin: int) -> None:
    """At every call: either the older file or the newer one has the name, each whole."""
    path = tmp_path / "jobs" / name_of(1, 0, 1)
    older = files(state(), 1)[0]
    done = False
    newer = large(begin)
    known = {older.digest, digest_of(memoryview(newer.head + bytes(newer.data)))}
    checkpoint.write(path, older)
    for after in range(40):
        with pytest.MonkeyPatch.context() as patch:
            seen = crashing(patch, after, Crash())
            with contextlib.suppress(Crash):
                checkpoint.write(path, newer)
                done = True
        assert digest_of(memoryview(path.read_bytes())) in known
        left = [entry.name for entry in path.parent.iterdir() if entry != path]
        assert all(name.startswith(TEMPORARY) for name in left)
        if done:
            break
    assert done
    order = [name for name in seen if name in ("fsync", "replace")]
    assert order == ["fsync", "replace", "fsync"], "the data, then the name, then the folder"
    FolderShelf(tmp_path)  # as the peer starts anew
    for entry in list(path.parent.glob(f"{TEMPORARY}*")):
        _gone_soon(entry)
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_trainer_wrote_and_did_not_tell_of_is_found(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path)
    path = tmp_path / "job-1" / name_of(7, 1, 3)
    checkpoint.write(path, files(state(), 1)[0])
    (path.parent / f"{TEMPORARY}{path.name}.1").touch()  # half written: its successor removes it
    assert shelf.files == {}
    shelf.look("job-2")
    assert shelf.files == {}
    shelf.look("job-1")
    assert {known: (file.job, file.step) for known, file in shelf.files.items()} == {
        str(path): ("job-1", 7)
    }


def _gone_soon(path: Path) -> None:
    for thread in threading.enumerate():
        if thread.name == "remove":
            thread.join(10.0)
    assert not path.exists()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_an_error_at_any_point_leaves_the_older_one_and_nothing_else(
    tmp_path: Path, error: int
) -> None:
    older, contents = tmp_path / name_of(1, 0, 1), files(state(), 1)[0]
    checkpoint.write(older, contents)
    newer = tmp_path / name_of(2, 0, 1)
    for after in (0, 1, 2, 3):
        with pytest.MonkeyPatch.context() as patch:
            crashing(patch, after, OSError(error, os.strerror(error)))
            with pytest.raises(CheckpointFailed, match="; make room there, older checkpoints"):
                checkpoint.write(newer, large())
        left = set(tmp_path.iterdir())
        assert older in left
        assert digest_of(memoryview(older.read_bytes())) == contents.digest
        for path in left - {older}:  # here not even deleting works
            path.unlink()


def test_half_written_files_of_the_dead_are_swept(tmp_path: Path) -> None:
    mine = tmp_path / f"{TEMPORARY}step-00000001.safetensors.{os.getpid()}"
    dead = tmp_path / f"{TEMPORARY}step-00000001.safetensors.{2**22 + 1}"
    whole = tmp_path / "step-00000001.safetensors"
    for path in (mine, dead, whole):
        path.touch()
    checkpoint.sweep(tmp_path)
    checkpoint.sweep(tmp_path / "none")
    assert sorted(tmp_path.iterdir()) == sorted([mine, whole])


def test_a_peer_knows_its_files_when_it_starts(tmp_path: Path) -> None:
    folder = tmp_path / "job-3"
    folder.mkdir()
    parts = [folder / name_of(step, 0, 2) for step in (10, 20)]
    for path in (*parts, folder / "notes.txt"):
        path.touch()
    shelf = FolderShelf(tmp_path)
    assert {path: (file.job, file.step) for path, file in shelf.files.items()} == {
        str(parts[0]): ("job-3", 10),
        str(parts[1]): ("job-3", 20),
    }
    shelf.remove(str(parts[0]))
    _gone_soon(parts[0])
    assert list(shelf.files) == [str(parts[1])]
    assert sorted(folder.iterdir()) == sorted([parts[1], folder / "notes.txt"])


def test_an_update_waits_for_the_copy_and_the_file_has_the_state_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, said = new_run(Plain, shards=3), list[Any]()
    steps([run], [(0, 3)], 2, {0})
    before = run.hash()
    may_copy, updated = threading.Event(), threading.Event()
    finish, write = Copy.finish, checkpoint.write
    monkeypatch.setattr(Copy, "finish", lambda copy: (may_copy.wait(10.0), finish(copy)))
    monkeypatch.setattr(checkpoint, "write", lambda *of: (updated.wait(10.0), write(*of))[1])
    checkpoints = Checkpoints(tmp_path, run, said.append, lambda: 0)
    checkpoints.start(1, 0, 1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(checkpoints.wait_copied)
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
        may_copy.set()
        waiting.result(10.0)
    steps([run], [(0, 3)], 1, {0})
    assert run.hash() != before
    updated.set()
    checkpoints.wait()
    (told,) = said
    tensors, metadata = checkpoint.unpack(Path(told["parts"][0]["path"]).read_bytes())
    assert (told["state_hash"], state_hash(tensors), told["step"]) == (before, before, 2)
    assert int(metadata["step"]) == 2
