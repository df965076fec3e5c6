"""Flag > $P2P_* > TOML > default, and where each value came from."""

from pathlib import Path

import pytest

from p2p.errors import Usage
from p2p.settings import SETTINGS, config_file, data_home, resolve


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    return tmp_path


def write(text: str) -> Path:
    file = config_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_the_order_of_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    def slots(**flags: object) -> tuple[object, str]:
        found = resolve(flags)["slots"]
        return found.value, found.source

    assert slots() == (1, "default")
    file = write("slots = 2\n")
    assert slots() == (2, str(file))
    monkeypatch.setenv("P2P_SLOTS", "3")
    assert slots() == (3, "$P2P_SLOTS")
    assert slots(slots=4) == (4, "flag")
    assert slots(slots=None) == (3, "$P2P_SLOTS")


def test_every_setting_has_a_value_and_a_help() -> None:
    assert set(resolve({})) == {setting.name for setting in SETTINGS}
    assert all(setting.help for setting in SETTINGS)


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("P2P_ALLOW_FAULTS", "YES", True),
        ("P2P_ALLOW_FAULTS", "off", False),
        ("P2P_ALLOW_FAULTS", "", False),
        ("P2P_SLOTS", " 0 ", 0),
        ("P2P_NAME", " me ", "me"),
    ],
)
def test_values_are_read(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)
    assert resolve({})[variable.removeprefix("P2P_").lower()].value == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("P2P_SLOTS", "many"),
        ("P2P_SLOTS", "-1"),
        ("P2P_SLOTS", "1.5"),
        ("P2P_SLOTS", "²"),
        ("P2P_SLOTS", ""),
        ("P2P_ALLOW_FAULTS", "maybe"),
    ],
)
def test_what_cannot_be_read_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(Usage, match=rf"from \${variable}: expected"):
        resolve({})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slots = ", "cannot read"),
        ("colour = 1", "unknown setting 'colour'"),
        ("slots = true", "expected int"),
    ],
)
def test_a_wrong_file_is_named(text: str, said: str) -> None:
    file = write(text)
    with pytest.raises(Usage, match=said) as caught:
        resolve({})
    assert str(file) in str(caught.value)


def test_folders_follow_xdg(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_home() == home / "data" / "p2pnode"
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    monkeypatch.setenv("HOME", str(home))
    assert config_file() == home / ".config" / "p2pnode" / "config.toml"
