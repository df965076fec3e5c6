"""Settings and where each comes from: flag > $P2P_* > TOML under XDG config > default."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2p.errors import Usage


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    kind: type
    default: Any
    help: str

    @property
    def variable(self) -> str:
        return f"P2P_{self.name.upper()}"


SETTINGS = (
    Setting("name", str, None, "what this peer is called (default: host name and port)"),
    Setting("listen", str, None, "HOST:PORT to listen on (default: the first free from 7700 on)"),
    Setting("advertise", str, None, "HOST:PORT that others reach this peer at"),
    Setting("data_dir", str, None, "the peer's data directory"),
    Setting(
        "slots", int, 1, "how many trainers this peer offers (one per GPU); 0 = coordination only"
    ),
    Setting("device", str, "auto", "what its trainers compute on: auto, cpu or cuda"),
    Setting("allow_faults", bool, False, "let `p2pnode fault` act on this peer"),
    Setting("files_gb", int, 256, "how many GB of files from other peers this peer keeps at most"),
    Setting("measure", bool, True, "measure this peer and its host, and keep the histories"),
    Setting("metrics_port", str, None, "[HOST:]PORT on which Prometheus finds its metrics"),
    Setting("http", str, None, "[HOST:]PORT of an OpenAI-compatible door to what is served"),
    Setting("http_token_file", str, None, "file with the token that the door's clients give"),
    Setting(
        "alert_rules", str, None, "TOML file with rules (default: alerts.toml beside this file)"
    ),
    Setting("notify_command", str, None, "shell command that is given each alert as JSON on stdin"),
    Setting("notify_url", str, None, "webhook that each alert is posted to as JSON"),
    Setting("token_file", str, None, "file with the cluster's token"),
    Setting("peer", str, None, "HOST:PORT[,...] of the peers that commands ask"),
)
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


@dataclass(frozen=True, slots=True)
class Resolved:
    value: Any
    source: str


def config_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "p2pnode" / "config.toml"


def data_home() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "p2pnode"


def addresses(text: str, given_by: str) -> tuple[str, ...]:
    """HOST:PORT[,...], at least one. Raises Usage, which names what it was given by."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for address in found:
        host, _, port = address.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65_536):
            raise Usage(f"{given_by}: {address!r} is not HOST:PORT")
    if not found:
        raise Usage(f"{given_by}: no peer is named, expected HOST:PORT[,...]")
    return found


def resolve(flags: Mapping[str, Any]) -> dict[str, Resolved]:
    """Each setting's value and source. Raises Usage for a value that cannot be read."""
    file = config_file()
    table = _read(file)
    return {setting.name: _one(setting, flags, table, file) for setting in SETTINGS}


def _one(
    setting: Setting, flags: Mapping[str, Any], table: Mapping[str, Any], file: Path
) -> Resolved:
    flag = flags.get(setting.name)
    if flag is not None:
        return Resolved(flag, "flag")
    if setting.variable in os.environ:
        return Resolved(
            _parse(setting, os.environ[setting.variable], f"${setting.variable}"),
            f"${setting.variable}",
        )
    if setting.name in table:
        return Resolved(_parse(setting, table[setting.name], str(file)), str(file))
    return Resolved(setting.default, "default")


def _parse(setting: Setting, value: Any, source: str) -> Any:
    text = str(value).strip()
    if setting.kind is bool and text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    if setting.kind is int and text.isdecimal():
        return int(text)
    if setting.kind is str:
        return text
    raise Usage(f"{setting.name} = {value!r} from {source}: expected {setting.kind.__name__}")


def _read(file: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Usage(f"cannot read {file}: {error}") from error
    known = {setting.name for setting in SETTINGS}
    unknown = sorted(set(table) - known)
    if unknown:
        raise Usage(f"{file} has an unknown setting {unknown[0]!r}: there are {sorted(known)}")
    return table
