"""config: every setting, its value and where it comes from."""

import argparse

from p2p.settings import SETTINGS, config_file, data_home, resolve
from p2p.verbs.verb import Verb, print_json, table


def show(args: argparse.Namespace) -> int:
    resolved = resolve(vars(args))
    if args.json:
        rows = {
            name: {"value": found.value, "source": found.source} for name, found in resolved.items()
        }
        paths = {"config_file": str(config_file()), "data_home": str(data_home())}
        print_json({"settings": rows, **paths})
        return 0
    lines = [
        [setting.name, _shown(resolved[setting.name].value), resolved[setting.name].source]
        for setting in SETTINGS
    ]
    print(table(["SETTING", "VALUE", "SOURCE"], lines))
    print(f"\nfile {config_file()}, data under {data_home()}; flag > $P2P_* > file > default")
    return 0


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")


VERBS = (Verb("config", "each setting and its source", _arguments, show),)
