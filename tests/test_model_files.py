"""Which files at a path are the weights of a model."""

import hashlib
import json
from pathlib import Path

import pytest

from p2p.checkpoints.model_files import folder, found
from p2p.checkpoints.safetensors_file import Entry, header
from p2p.errors import P2PError, Usage
from p2p.replicas.folders import gather


def write(path: Path, step: int | None = None) -> bytes:
    told = {} if step is None else {"job": "job-1", "task": "textgpt", "step": step}
    text = {name: json.dumps(value) for name, value in told.items()}
    data = header([Entry("a", "F32", (1,), 0, 4)], text) + b"abcd"
    path.write_bytes(data)
    return data


def names(folder: Path) -> list[str]:
    return [Path(file["path"]).name for file in found(folder)["files"]]


def test_one_file_says_what_it_is_of(tmp_path: Path) -> None:
    data = write(tmp_path / "m.safetensors", 7)
    told = found(tmp_path / "m.safetensors")
    assert (told["job"], told["task"], told["step"]) == ("job-1", "textgpt", 7)
    (file,) = told["files"]
    assert (file["sha256"], file["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    write(tmp_path / "plain.safetensors")
    assert found(tmp_path / "plain.safetensors").keys() == {"files"}


def test_of_a_folder_the_newest_checkpoint_that_is_complete(tmp_path: Path) -> None:
    one = [f"step-00000003.part-{n}-of-2.safetensors" for n in (1, 2)]
    for name in (*one, "step-00000009.part-1-of-2.safetensors", "step-00000001.safetensors"):
        write(tmp_path / name)
    write(tmp_path / "step-00000009.shards-1-of-2.safetensors")
    assert names(tmp_path) == one
    (tmp_path / one[0]).unlink()
    assert names(tmp_path) == ["step-00000001.safetensors"]
    (tmp_path / "step-00000001.safetensors").unlink()
    with pytest.raises(Usage, match="all its parts"):
        found(tmp_path)


def test_a_hugging_face_folder_goes_whole_and_is_put_together_again(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    with pytest.raises(Usage, match="no config"):
        folder(model)
    for name in ("config.json", "model.safetensors", ".cache"):
        (model / name).write_text(name)
    files = folder(model)["files"]
    assert [file["name"] for file in files] == ["config.json", "model.safetensors"]
    for _ in range(2):  # what another start left there goes
        gather(str(tmp_path / "there"), {file["name"]: file["path"] for file in files})
    assert (tmp_path / "there" / "config.json").read_text() == "config.json"


def test_other_folders_and_what_is_none(tmp_path: Path) -> None:
    with pytest.raises(Usage, match="0 safetensors files"):
        found(tmp_path)
    with pytest.raises(Usage, match="there is no"):
        found(tmp_path / "nothing")
    write(tmp_path / "b.safetensors")
    write(tmp_path / "a.safetensors")
    assert names(tmp_path) == ["a.safetensors", "b.safetensors"]
    (tmp_path / "a.safetensors").write_bytes(b"nonsense" * 9)
    with pytest.raises(P2PError, match="is no safetensors file"):
        found(tmp_path)
