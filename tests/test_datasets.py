"""Datasets: their manifests, their formats, a checked copy of one, and bad input of every kind."""

import gzip
import hashlib
import json
import os
import shutil
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from p2p.content.folder import ContentFolder
from p2p.datasets import formats, tree
from p2p.datasets.builtin import Place
from p2p.datasets.manifest import File, from_bytes, made_of, to_bytes
from p2p.datasets.placing import place, remove
from p2p.datasets.tree import Seen, difference, scan
from p2p.datasets.worker import carry_out
from p2p.errors import P2PError, Usage
from p2p.proposals import PROPOSED
from p2p.replicated.apply import apply
from p2p.replicated.state import DATASETS_MAX
from tests.peer_fakes import applied, dataset, founded, spec

SHA = "ab" * 32


def sha_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- the agreed state -----------------------------------------------------------------------------


def test_a_name_never_changes_its_meaning() -> None:
    state = applied(founded("a"), dataset())
    again, answer = apply(state, {"at_s": 2.0, **dataset()})
    assert (again, answer["content"]) == (state, f"sha256:{SHA}")
    for other in ({"manifest": "cd" * 32}, {"where": "/elsewhere"}):
        same, answer = apply(state, {"at_s": 2.0, **dataset(**other)})
        assert same == state
        assert "is registered already" in answer["error"]
    assert state.events[-1].text == "dataset digits was registered: 1 files, 45394 bytes"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "../x"}, "is no name for a dataset"),
        ({"name": "x" * 65}, "is no name for a dataset"),
        ({"manifest": "AB" * 32}, "out of range"),
        ({"files": True}, "files is missing or wrong"),
        ({"samples": -1}, "out of range"),
        ({"where": ""}, "out of range"),
        ({"schema": {"x": "y" * 70_000}}, "out of range"),
        ({"more": 1}, "more is missing or wrong"),
    ],
)
def test_a_malformed_one_changes_nothing(wrong: dict[str, Any], said: str) -> None:
    state = founded("a")
    same, answer = apply(state, {"at_s": 1.0, **dataset(**wrong)})
    assert same is state
    assert said in answer["error"]
    with pytest.raises(Usage, match=said):
        PROPOSED["data_register"](state, dataset(**wrong))


def test_one_in_use_is_not_dropped_and_their_number_is_bounded() -> None:
    state = applied(founded("a"), dataset())
    used = PROPOSED["submit"](state, {"task": "digits", "data": "/x/digits", "data_name": "digits"})
    assert used["spec"]["dataset"] == {"name": "digits", "manifest": SHA}
    assert used["spec"]["data"] is None
    path = PROPOSED["submit"](state, {"task": "mnist", "data": "/x/other", "data_name": "other"})
    assert (path["spec"]["data"], "dataset" in path["spec"]) == ("/x/other", False)
    busy = applied(state, used)
    same, answer = apply(busy, {"at_s": 1.0, "type": "data.drop", "name": "digits"})
    assert same is busy
    assert answer["error"] == "digits is used by job-1: let them end or cancel them"
    drop = {"type": "data.drop", "name": "digits"}
    done = applied(busy, {"type": "job.cancel", "job": "job-1"}, drop)
    assert done.datasets == {}
    for number in range(DATASETS_MAX):
        state, _ = apply(state, {"at_s": 1.0, **dataset(f"n{number}")})
    assert len(state.datasets) == DATASETS_MAX
    assert spec()["task"] == "digits"


# -- manifests ------------------------------------------------------------------------------------

NAMES = st.lists(st.sampled_from(["a", "b b", "ü", "x.png", "0"]), min_size=1, max_size=3).map(
    "/".join
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(NAMES, st.integers(0, 2**40), min_size=1, max_size=5))
def test_manifests_round_trip_in_one_order(sizes: dict[str, int]) -> None:
    files = [File(name, size, SHA) for name, size in sizes.items()]
    try:
        manifest = made_of("folder", files)
    except Usage:
        assert any(name.startswith(f"{other}/") for name in sizes for other in sizes)
        return
    assert from_bytes(to_bytes(manifest)) == manifest
    assert to_bytes(made_of("folder", files[::-1])) == to_bytes(manifest)


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/../b", "a//b", "", ".", "a/./b", "x\ny", "a\0b", "y" * 256, "z/" * 600 + "z"],
)
def test_a_name_that_leads_elsewhere_is_refused_wherever_it_comes_from(name: str) -> None:
    with pytest.raises(Usage):
        made_of("folder", [File(name, 1, SHA)])
    with pytest.raises(Usage):
        from_bytes(f"p2p-manifest 1 folder\n{SHA} 1 {name}\n".encode())


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_from_anywhere_are_no_manifest(data: bytes) -> None:
    for told in (data, b"p2p-manifest 1 folder\n" + data):
        with pytest.raises(Usage):
            from_bytes(told)


# -- trees ----------------------------------------------------------------------------------------


def folder_of(root: Path, **files: bytes) -> Path:
    for name, data in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1_000, 1_000))
    return root


def test_a_difference_names_the_file(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", a=b"1", sub__b=b"22", **{".hidden": b"x"})
    manifest = scan(Place(root), Seen(None), 0)
    assert [file.name for file in manifest.files] == ["a", "sub/b"]
    other = tmp_path / "other"

    def told() -> str | None:
        return difference(Place(other), manifest, Seen(None), 0)

    shutil.copytree(root, other)
    assert told() is None
    (other / "sub/b").write_bytes(b"23")
    assert f"{other}/sub/b has other content" in str(told())
    (other / "a").write_bytes(b"")
    assert told() == f"{other}/a has 0 bytes, 1 in the dataset"
    (other / "a").unlink()
    assert told() == f"{other} lacks a"
    folder_of(other, a=b"1", more=b"")
    assert told() == f"{other} has more, which is not in the dataset"
    shutil.rmtree(other)
    other.write_bytes(b"")
    assert told() == f"{other} is a file, not a folder"


def test_only_regular_files_of_a_sane_tree_are_read(tmp_path: Path) -> None:
    def refused(root: Path, said: str) -> None:
        with pytest.raises(P2PError, match=said):
            scan(Place(root), Seen(None), 0)

    link = folder_of(tmp_path / "link", a=b"1")
    (link / "b").symlink_to("/etc/passwd")
    refused(link, r"b is a symbolic link: a dataset has regular files only")
    pipe = folder_of(tmp_path / "pipe", a=b"1")
    os.mkfifo(pipe / "b")
    refused(pipe, r"b is no regular file")
    refused(Path("/dev/zero"), "no regular file")
    deep = tmp_path / "deep"
    folder_of(deep / "/".join("d" * 70), a=b"1")
    refused(deep, "nested more than 64 folders deep")
    latin = tmp_path / "latin"
    folder_of(latin, a=b"1")
    Path(os.fsdecode(os.fsencode(latin) + b"/\xe4")).write_bytes(b"")
    refused(latin, "not UTF-8")
    refused(tmp_path / "none", "No such file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "1 to 50000 files, this one 0")


def test_a_file_that_changes_while_it_is_read_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder_of(tmp_path / "data", a=b"1" * 10)
    reading = tree.Seen.find

    def grows(seen: Seen, path: Path, found: os.stat_result) -> str | None:
        with (root / "a").open("ab") as file:
            file.write(b"2")
        return reading(seen, path, found)

    monkeypatch.setattr(tree.Seen, "find", grows)
    with pytest.raises(P2PError, match="a changed while it was read"):
        scan(Place(root), Seen(None), 0)


def test_what_was_seen_is_not_read_again_unless_it_may_have_changed(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", a=b"1", b=b"1")
    later_ns = time.time_ns() + 60 * 10**9
    seen = Seen(tmp_path / "seen")
    manifest = scan(Place(root), seen, time.time_ns())
    seen.save()
    assert not (tmp_path / "seen").exists()  # they were changed just now, and may be again
    assert scan(Place(root), seen, later_ns) == manifest
    seen.save()
    lied = (tmp_path / "seen").read_text().replace(sha_of(b"1"), sha_of(b"2"))
    (tmp_path / "seen").write_text(lied)
    again = Seen(tmp_path / "seen")
    assert "other content" in str(difference(Place(root), manifest, again, later_ns))
    for name in "ab":
        os.utime(root / name, (1_000, 1_000))  # as they were, but for the time of that change
    assert difference(Place(root), manifest, again, later_ns) is None
    (tmp_path / "seen").write_text("[]")
    assert Seen(tmp_path / "seen").find(root / "a", (root / "a").stat()) is None


# -- a checked copy -------------------------------------------------------------------------------


def test_a_copy_is_its_own_or_made_of_what_came(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "data", a=b"1", sub__b=b"22", sub__c=b"22")
    content = tmp_path / "content"
    told = carry_out(
        {"kind": "register", "where": str(root), "content": str(content), "datasets": str(content)}
    )
    assert (told["files"], told["bytes"], told["format"]) == (3, 5, "files")
    manifest, target = content / told["manifest"], tmp_path / "datasets" / "x"
    target.parent.mkdir()
    assert place(str(root), manifest, content, target).path == root
    (root / "a").write_bytes(b"2")
    assert "a has other content" in place(str(root), manifest, content, target).differs
    elsewhere = str(tmp_path / "none")
    missing = dict(place(elsewhere, manifest, content, target).missing)
    assert sorted(missing.values()) == [1, 2]  # two files are the same
    for data in (b"1", b"22"):
        ContentFolder(content).put(data)
    assert place(elsewhere, manifest, content, target).path == target
    assert (target / "sub/c").read_bytes() == b"22"
    os.chmod(target / "a", 0o600)
    (target / "a").write_bytes(b"9")  # somebody damages it: it is made again, and not of that
    assert dict(place(elsewhere, manifest, content, target).missing) == {sha_of(b"1"): 1}
    remove(target, manifest, content)
    assert sorted(os.listdir(tmp_path / "datasets")) == []
    assert os.listdir(content) == [told["manifest"]]


def test_a_worker_answers_with_a_sentence(tmp_path: Path) -> None:
    order = {"kind": "register", "content": str(tmp_path), "datasets": str(tmp_path)}
    assert "there is no /none" in carry_out({**order, "where": "/none"})["error"]
    assert "no built-in data 'x'" in carry_out({**order, "where": "builtin:x"})["error"]
    assert "cannot read the dataset" in carry_out({"kind": "nothing"})["error"]
    told = carry_out({**order, "where": "builtin:digits"})
    assert (told["samples"], told["format"]) == (1_797, "npz")
    told = carry_out({**order, "where": "builtin:textgpt"})
    assert (told["format"], told["files"] > 50) == ("text", True)


# -- formats --------------------------------------------------------------------------------------

IMAGES = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
LABELS = np.arange(5, dtype=np.uint8)


def idx_bytes(array: Any, kind: int = 8) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes((0, 0, kind, array.ndim)) + sizes + array.tobytes()


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + bytes(range(width)) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    ends = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + ends


def jpeg_head(width: int, height: int) -> bytes:
    frame = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width)
    return b"\xff\xd8\xff\xe0\x00\x04ab" + frame + bytes(20)


def write_all(root: Path, kind: str) -> None:
    root.mkdir()
    match kind:
        case "idx":
            (root / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(IMAGES)))
            (root / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS))
            (root / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(IMAGES[:2]))
            (root / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[:2]))
        case "npz":
            test = {"images_test": IMAGES[:2], "labels_test": LABELS[:2]}
            np.savez_compressed(root / "d.npz", images=IMAGES, labels=LABELS, **test)
        case "safetensors":
            test = {"images_test": IMAGES[:2].copy(), "labels_test": LABELS[:2].copy()}
            save_file({"images": IMAGES, "labels": LABELS, **test}, root / "d.safetensors")


@pytest.mark.parametrize("kind", ["idx", "npz", "safetensors"])
def test_arrays_are_described_and_shown_alike(tmp_path: Path, kind: str) -> None:
    write_all(tmp_path / "d", kind)
    names = sorted(os.listdir(tmp_path / "d"))
    told = formats.describe(tmp_path / "d", names, None)
    assert (told.format, told.samples) == (kind, 7)
    fields = {field["name"]: field for field in told.schema["fields"]}
    assert fields["images"] == {"name": "images", "dtype": "uint8", "shape": [2, 3]}
    assert fields["labels"]["shape"] == []
    assert sorted(told.schema["splits"].values()) == [2, 5]
    rows = formats.preview(tmp_path / "d", names, kind, 6)
    assert len(rows) == 6
    assert rows[1]["fields"] == {"images": IMAGES[1].tolist(), "labels": 1}
    assert [row["index"] for row in rows][-1] == 0  # of the other split
    json.dumps(rows)


def test_text_and_folders_of_images(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "t", **{"a.txt": b"one\ntwo", "b.md": b"three\n"})
    told = formats.describe(root, ["a.txt", "b.md"], None)
    assert (told.format, told.samples) == ("text", 3)
    rows = formats.preview(root, ["a.txt", "b.md"], "text", 10)
    assert [row["fields"]["line"] for row in rows] == ["one", "two", "three"]
    files = {"train__cat__1.png": png(8, 4), "train__dog__2.jpg": jpeg_head(6, 4)}
    root = folder_of(tmp_path / "i", **files)
    names = ["train/cat/1.png", "train/dog/2.jpg"]
    told = formats.describe(root, names, None)
    assert (told.format, told.samples, told.schema["classes"]) == ("images", 2, ["cat", "dog"])
    assert (told.schema["width"], told.schema["splits"]) == ([6, 8], {"train": 2})
    rows = formats.preview(root, names, "images", 5)
    assert rows[0]["fields"]["label"] == "cat"
    assert rows[0]["fields"]["image"] == [list(range(8))] * 4
    assert rows[1]["fields"]["image"] == "cannot be decoded"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("x.idx", b"", "not an IDX file"),
        ("x.idx", idx_bytes(IMAGES)[:-1], "is damaged"),
        ("x.idx", b"\0\0\x08\xff" + b"\xff" * 1_020, "is damaged"),
        ("x.idx.gz", gzip.compress(idx_bytes(IMAGES), mtime=0)[:-9], "cannot read"),
        ("x.npz", b"PK", "damaged or no numpy file"),
        ("x.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O'}\n", "damaged"),
        ("x.safetensors", b"\xff" * 20, "no safetensors file"),
        ("x.safetensors", b"\x02\0\0\0\0\0\0\0{}", "no arrays"),
        ("x.safetensors", b"\x02\0\0\0\0\0\0\0[]", "no safetensors file"),
        ("x.png", b"GIF89a", "neither PNG nor JPEG"),
        ("x.txt", b"a\0b", "is not text"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Usage, match=said):
        formats.describe(tmp_path, [name], None)
    assert formats.describe(tmp_path, [name], "files").samples is None


def test_arrays_that_do_not_belong_together_and_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=IMAGES, y=LABELS[:4])
    with pytest.raises(Usage, match="x has 5 samples and y 4"):
        formats.describe(tmp_path, ["a.npz"], None)
    np.save(tmp_path / "b.npy", np.array([{}, "x"], dtype=object), allow_pickle=True)
    with pytest.raises(Usage, match="never unpickled"):
        formats.describe(tmp_path, ["b.npy"], None)
    with pytest.raises(Usage, match="no format 'x'"):
        formats.describe(tmp_path, ["b.npy"], "x")


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["x.idx", "x.npy", "x.npz", "x.safetensors"]))
def test_any_bytes_are_described_or_refused(tmp_path_factory: Any, data: bytes, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(data)
    try:
        told = formats.describe(path.parent, [name], None)
        formats.preview(path.parent, [name], told.format, 3)
    except Usage:
        pass
