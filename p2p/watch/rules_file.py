"""The rules in force: the built-in ones, and those of the user's file."""

from pathlib import Path

from p2p.errors import Usage
from p2p.settings import config_file
from p2p.watch.rule import Rule
from p2p.watch.rules import BUILT_IN
from p2p.watch.user_rules import with_users

FILE = "alerts.toml"


def read(path: str | None) -> tuple[Rule, ...]:
    """`path` None: alerts.toml beside the settings' file, if there is one. Raises Usage."""
    file = Path(path).expanduser() if path else config_file().parent / FILE
    try:
        text = file.read_text()
    except FileNotFoundError:
        if path:
            raise Usage(f"alert_rules: there is no file {file}") from None
        return BUILT_IN
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"cannot read {file}: {error}") from error
    return with_users(BUILT_IN, text, str(file))
