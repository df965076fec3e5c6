"""A peer's data directory: who it is, whose cluster, and refusing to mix them up."""

from pathlib import Path

import pytest

from p2p.errors import P2PError, Refused, Usage
from p2p.storage import data_dir
from p2p.storage.data_dir import Remembered, load_key, open_data_dir, recall, remember, save_key
from p2p.storage.disk import Folder, Locked
from p2p.wire.keys import ClusterKey


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


def of_cluster(path: Path, cluster: str) -> None:
    folder = Folder(path)
    remember(folder, Remembered("id", "name", "127.0.0.1:7700", cluster))
    folder.close()


def test_a_peer_remembers_itself(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "peer")
    assert recall(folder) is None
    who = Remembered("id", "name", "127.0.0.1:7700", "c")
    remember(folder, who)
    assert recall(folder) == who
    key = ClusterKey.fresh()
    save_key(folder, key)
    assert load_key(folder) == key
    assert data_dir.token_path(folder).stat().st_mode & 0o777 == 0o600
    data_dir.make_subfolders(folder)
    assert {"checkpoints", "sources", "logs"} <= {path.name for path in folder.path.iterdir()}
    folder.close()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"id": 1}', "\xff", "7"])
def test_a_damaged_identity_is_said_and_the_lock_given_back(tmp_path: Path, text: str) -> None:
    path = tmp_path / "peer"
    path.mkdir()
    (path / "peer.json").write_bytes(text.encode("latin-1"))
    for _ in range(2):
        with pytest.raises(P2PError, match="is damaged"):
            open_data_dir(str(path), None)


@pytest.mark.parametrize(("content", "error"), [(None, P2PError), (b"\xff\xfe", Usage)])
def test_a_missing_or_damaged_token_is_said(
    tmp_path: Path, content: bytes | None, error: type[P2PError]
) -> None:
    folder = Folder(tmp_path / "peer")
    if content is not None:
        folder.replace("token", content)
    with pytest.raises(error):
        load_key(folder)
    folder.close()


def test_another_cluster_s_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "peer"
    of_cluster(path, "one")
    for _ in range(2):  # the first refusal must not keep the lock
        with pytest.raises(Refused, match="belongs to a peer of cluster one, not two"):
            open_data_dir(str(path), "two")
    for cluster in ("one", None):
        open_data_dir(str(path), cluster).close()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    folder = open_data_dir(str(tmp_path / "peer"), None)
    with pytest.raises(Locked):
        open_data_dir(str(tmp_path / "peer"), None)
    folder.close()


def test_without_a_folder_the_first_free_one_that_fits(home: Path) -> None:
    own = home / "p2pnode"
    of_cluster(own / "peer-1", "one")
    of_cluster(own / "peer-2", "two")
    joins_two = open_data_dir(None, "two")
    assert joins_two.path == own / "peer-2"
    joins_two_again = open_data_dir(None, "two")
    assert joins_two_again.path == own / "peer-3"
    comes_back = open_data_dir(None, None)
    assert comes_back.path == own / "peer-1"
    for folder in (joins_two, joins_two_again, comes_back):
        folder.close()


def test_when_all_are_taken_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_dir, "DEFAULT_DIRS_MAX", 3)
    held = [open_data_dir(None, "c") for _ in range(2)]
    with pytest.raises(P2PError, match="give --data-dir"):
        open_data_dir(None, "c")
    for folder in held:
        folder.close()
