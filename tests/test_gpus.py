"""GPUs of a host: which a peer may use, what it says of them, and that none is no trouble."""

from pathlib import Path

import pytest

from p2p.devices import gpus
from p2p.devices.gpu_sharing import Gpu, SharedReading
from p2p.devices.gpus import find, visible
from p2p.errors import P2PError, Usage
from p2p.reports import parse_gpus
from p2p.verbs.show import _gpus_text

FOUND = [Gpu(f"GPU-{n}f", "H200", 100, 10 * n, float(n)) for n in range(3)]


class Driver:
    def read(self) -> list[Gpu]:
        return FOUND


def no_driver() -> Driver:
    raise OSError("libnvidia-ml.so.1: cannot open shared object file")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("2, 0", [2, 0]),
        ("1,7,0", [1]),
        ("GPU-2,GPU-0f", [2, 0]),
        ("GPU-", []),
        ("0,0", [0]),
    ],
)
def test_what_cuda_would_show(text: str | None, numbers: list[int]) -> None:
    environment = {} if text is None else {"CUDA_VISIBLE_DEVICES": text}
    assert visible(FOUND, environment) == numbers


def test_which_device_trainers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    for cuda, device, kind, offered in (
        (True, "auto", "cuda", ("GPU-1f", "GPU-2f")),
        (True, "cuda", "cuda", ("GPU-1f", "GPU-2f")),
        (True, "cpu", "cpu", ()),
        (False, "auto", "cpu", ()),
    ):
        monkeypatch.setattr(gpus, "torch_has_cuda", lambda cuda=cuda: cuda)
        found = find(device, Driver)
        assert (found.kind, found.offered) == (kind, offered)
        assert [gpu["uuid"] for gpu in found.figures()] == ["GPU-1f", "GPU-2f"]
        found.close()


def test_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for device in ("auto", "cpu"):
        assert (find(device, no_driver).kind, find(device, no_driver).figures()) == ("cpu", ())
    with pytest.raises(P2PError, match=r"--device cuda: no GPU here .*; start with auto or cpu"):
        find("cuda", no_driver)
    with pytest.raises(Usage, match=r"device is 'tpu': it must be one of auto, cpu, cuda"):
        find("tpu", no_driver)
    monkeypatch.setattr(gpus, "torch_has_cuda", lambda: False)
    with pytest.raises(P2PError, match=r"the torch that is installed here has no CUDA"):
        find("cuda", Driver)


@pytest.mark.parametrize(
    ("line", "has"),
    [("cuda: Optional[str] = None", False), ("cuda: Optional[str] = '12.6'", True), ("", False)],
)
def test_torch_is_read_and_not_imported(
    line: str, has: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise AssertionError('imported')")
    (tmp_path / "torch" / "version.py").write_text(f"__version__ = '2.13.0'\n{line}\nhip = None\n")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, "torch", raising=False)
    assert gpus.torch_has_cuda() is has


def test_what_is_said_of_them() -> None:
    told = [
        {"uuid": "u", "name": "H200", "memory_total": 9, "memory_used": 2_000_000, **busy}
        for busy in ({"utilization": 40.0}, {"utilization": None})
    ]
    assert parse_gpus(told) == tuple(told)
    assert _gpus_text({"gpus": told, "device": "cuda"}) == "2 x H200 40% 4 MB"
    assert _gpus_text({"gpus": told[1:], "device": "cpu"}) == "H200 2 MB (trains on the CPU)"
    assert _gpus_text({"gpus": [], "device": "cpu"}) == "no GPU"
    for wrong in (None, "H200", [1], [{}], [{**told[0], "memory_used": "much"}], told * 40):
        with pytest.raises(TypeError):
            parse_gpus(wrong)


def test_of_the_peers_on_a_host_one_asks_the_driver(tmp_path: Path) -> None:
    """And when it ends another one does; what does not fit is not believed."""
    now_s, asked = 100.0, []

    def peer(name: str, found: list[Gpu]) -> SharedReading:
        def read() -> list[Gpu]:
            asked.append(name)
            return found

        return SharedReading(read, tmp_path / "gpus.json", 1.8, lambda: now_s)

    a, b, other = peer("a", FOUND), peer("b", FOUND), peer("other", FOUND[:1])
    asked.clear()
    for _ in range(10):
        assert list(a()) == list(b()) == FOUND
        now_s += 2.0
    assert asked == ["a"] * 10
    assert list(other()) == FOUND[:1]
    for text in ("", "[]", "{}", '{"at_s": 1e999, "gpus": []}', '{"at_s": 120, "gpus": [{}]}'):
        (tmp_path / "gpus.json").write_text(text)
        assert list(b()) == FOUND
    assert asked[10:] == ["other"] + ["b"] * 5
    (tmp_path / "gpus.json").unlink()
    (tmp_path / "gpus.json").mkdir()
    assert list(a()) == FOUND, "a file that cannot be written is no trouble"
    assert [path.name for path in tmp_path.iterdir()] == ["gpus.json"]
