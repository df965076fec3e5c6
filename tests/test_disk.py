"""The disk and its twin: what was acknowledged is there, and a failed write ends it."""

import errno
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from p2p.storage.disk import Disk, DiskFailed, Folder, Locked, write_output
from p2p.storage.disk_memory import MemoryDisk


@pytest.fixture(params=["folder", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    made: Disk = MemoryDisk() if request.param == "memory" else Folder(tmp_path / "peer")
    yield made
    made.close()


# -- what both can -------------------------------------------------------------------------------


def test_a_file_that_is_not_there_reads_as_none(disk: Disk) -> None:
    assert disk.read("log") is None


def test_append_replace_truncate(disk: Disk) -> None:
    disk.append("log", b"one")
    disk.append("log", b"two")
    assert disk.read("log") == b"onetwo"
    disk.truncate("log", 4)
    disk.append("log", b"!")
    assert disk.read("log") == b"onet!"
    disk.replace("peer.json", b"{}")
    disk.replace("peer.json", b"{1}")
    assert disk.read("peer.json") == b"{1}"
    assert {"log", "peer.json"} <= set(disk.names())
    assert not [name for name in disk.names() if name.endswith(".new")]


def test_unsynced_bytes_are_read_at_once_and_parts_can_be_read(disk: Disk) -> None:
    disk.append_unsynced("log", b"one")
    disk.append_unsynced("log", b"two")
    disk.sync("log")
    assert (disk.read("log"), disk.size("log")) == (b"onetwo", 6)
    assert disk.read("log", 2) == b"etwo"
    assert disk.read("log", 2, 3) == b"etw"
    assert disk.read("log", 6, 3) == b""
    assert (disk.read("none", 1, 2), disk.size("none")) == (None, None)


def test_overwriting_leaves_the_end_where_it_was(disk: Disk) -> None:
    disk.append("mark", b"0123456789")
    disk.overwrite("mark", 2, b"ab")
    disk.sync("mark")
    disk.append("mark", b"!")
    assert disk.read("mark") == b"01ab456789!"


def test_reserved_space_reads_as_zeros(disk: Disk) -> None:
    disk.append("log", b"one")
    size = disk.reserve("log", 10)
    assert size >= 10
    disk.overwrite("log", 3, b"two")
    disk.sync("log")
    assert disk.read("log") == b"onetwo".ljust(size, b"\0")
    assert disk.reserve("log", 5) == disk.size("log") == size
    disk.truncate("log", 6)
    assert disk.read("log") == b"onetwo"


def test_rename_and_remove(disk: Disk) -> None:
    disk.append("new", b"new")
    disk.append("old", b"old")
    disk.rename("new", "old")
    disk.append("old", b"er")
    assert (disk.read("new"), disk.read("old")) == (None, b"newer")
    disk.remove("old")
    disk.remove("never there")
    disk.sync_names()
    assert disk.read("old") is None
    disk.append("old", b"again")
    assert disk.read("old") == b"again"


def test_after_a_failure_nothing_more_is_written(disk: Disk) -> None:
    disk.append("log", b"x")
    with pytest.raises(DiskFailed, match="cannot rename"):
        disk.rename("not there", "log")
    for act in (
        lambda: disk.append("other", b"y"),
        lambda: disk.append_unsynced("log", b"y"),
        lambda: disk.overwrite("log", 0, b"y"),
        lambda: disk.replace("log", b"y"),
        lambda: disk.truncate("log", 0),
        lambda: disk.remove("log"),
        lambda: disk.sync("log"),
    ):
        with pytest.raises(DiskFailed, match="cannot rename"):
            act()
    assert disk.read("log") == b"x"
    assert disk.read("other") is None


def test_names_are_sorted(disk: Disk) -> None:
    for name in ("b", "c", "a"):
        disk.append(name, b"x")
    assert [name for name in disk.names() if name != "lock"] == ["a", "b", "c"]


# -- the real one --------------------------------------------------------------------------------


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    first = Folder(tmp_path)
    with pytest.raises(Locked, match="in use by another peer"):
        Folder(tmp_path)
    first.close()
    Folder(tmp_path).close()


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "new")
    folder.replace("token", b"secret")
    folder.append("log", b"x")
    folder.close()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    assert modes == {"lock": 0o600, "token": 0o600, "log": 0o600}
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFailed, match="cannot use"):
        Folder(tmp_path / "file")


FULL = """
import resource, sys
from pathlib import Path
from p2p.storage.disk import DiskFailed, Folder

folder = Folder(Path(sys.argv[1]))
folder.append("log", b"x" * 100)
folder.replace("peer.json", b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150))
for act, name in ((folder.append, "log"), (folder.replace, "peer.json")):
    try:
        act(name, b"y" * 200)
    except DiskFailed as error:
        print(error)
"""


def test_a_write_that_does_not_fit_is_one_sentence_and_keeps_the_old(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    said = done.stdout.splitlines()
    assert len(said) == 2
    assert said[0] == said[1], "after the first failure nothing is tried"
    assert said[0].startswith("cannot write ")
    assert "make room" in said[0]
    assert (tmp_path / "log").read_bytes().startswith(b"x" * 100)
    assert (tmp_path / "peer.json").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "log", "peer.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_left_is_said(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    (tmp_path / "log").symlink_to("/dev/full")
    with pytest.raises(DiskFailed, match="No space left on device"):
        folder.append("log", b"x")
    folder.close()


def test_output_goes_through_links_and_into_pipes_and_never_takes_their_place(
    tmp_path: Path,
) -> None:
    """As root, an output of /dev/null that was replaced would break the machine."""
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(real)
    write_output(link, [b"one, ", b"two"])
    assert link.is_symlink()
    assert real.read_bytes() == b"one, two"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_output(pipe, [b"three"])
    assert os.read(reader, 100) == b"three"
    assert pipe.is_fifo()
    os.close(reader)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe", "real"]
    with pytest.raises(OSError, match="directory"):
        write_output(tmp_path, [b"four"])


def test_file_descriptors_are_given_back(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    folder = Folder(tmp_path)
    for name in "abc":
        folder.append(name, b"x")
    folder.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > len(before)


# -- the twin ------------------------------------------------------------------------------------


def test_the_twin_runs_full_and_keeps_what_it_has() -> None:
    disk = MemoryDisk(capacity_bytes=10)
    disk.append("log", b"12345")
    disk.replace("peer.json", b"123")
    with pytest.raises(DiskFailed, match="no space left"):
        disk.replace("log", b"1234")
    assert disk.files == {"log": b"12345", "peer.json": b"123"}
    disk.restart()
    with pytest.raises(DiskFailed, match="no space left"):
        disk.append("log", b"678")
    disk.restart()
    assert disk.read("log") == b"1234567", "what fitted is there, and was not acknowledged"
    assert disk.durable_view()["log"] == b"12345"
    disk.truncate("log", 0)
    disk.append("log", b"1234567")


def test_a_power_cut_keeps_what_was_synced_and_a_part_of_the_rest() -> None:
    start = MemoryDisk()
    start.append("log", b"a" * 700)
    start.append_unsynced("log", b"b" * 1500)
    seen = set()
    for seed in range(60):
        disk = start.copy()
        disk.power_cut(Random(seed))
        data = disk.read("log") or b""
        assert data == disk.durable_view()["log"]
        assert data.startswith(b"a" * 700)
        seen.add(re.sub(rb"(.)\1*", rb"\1", data) + (b"." if len(data) < 2200 else b""))
    # nothing, all, a shorter file, sectors that never arrived
    assert {b"a.", b"ab", b"ab.", b"a\0b"} <= seen


def test_a_power_cut_between_rename_and_sync_leaves_one_or_the_other() -> None:
    seen = set()
    for seed in range(20):
        disk = MemoryDisk()
        disk.append("old", b"1")

        def power_goes(what: str, name: str) -> None:
            if what == "sync names":
                raise KeyboardInterrupt

        disk.before_step = power_goes
        with pytest.raises(KeyboardInterrupt):
            disk.rename("old", "new")
        disk.power_cut(Random(seed))
        seen.add(tuple(disk.names()))
    assert seen == {("old",), ("new",)}


def test_a_failed_sync_marks_the_pages_clean() -> None:
    disk = MemoryDisk()
    disk.append("log", b"1")
    disk.fail(1, errno.EIO)  # the write, then the sync
    with pytest.raises(DiskFailed, match="cannot sync log"):
        disk.append("log", b"2")
    disk.restart()
    disk.sync("log")
    assert disk.read("log") == b"12"
    disk.power_cut(Random(1))
    assert disk.read("log") in (b"1", b"1\0"), "and the second sync repaired nothing"


def test_a_stray_write_is_seen_after_the_power_cut() -> None:
    disk = MemoryDisk()
    disk.append("log", b"0123456789")
    disk.stray["log"] = ("log", 2)
    disk.append("log", b"ab")
    assert disk.read("log") == b"0123456789ab"
    disk.power_cut(Random(1))
    assert disk.read("log") == b"01ab456789\0\0"


def test_the_twin_tells_what_became_durable() -> None:
    disk = MemoryDisk()
    told: list[tuple[str, bytes]] = []
    disk.on_durable = lambda name, data: told.append((name, data))
    disk.append_unsynced("log", b"1")
    disk.append_unsynced("log", b"2")
    assert told == [("", b"")]
    disk.sync("log")
    assert told == [("", b""), ("log", b"12")]
