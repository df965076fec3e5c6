"""The verb recover: after a majority of the voters was lost for good, go on with one peer."""

import argparse
import sys
import time

from p2p.errors import Usage
from p2p.settings import resolve
from p2p.verbs.verb import Verb, print_json, say

RISK = """\
This makes {name} the only voter of cluster {cluster}, in {path}.
 - Whatever the other voters agreed on and this peer never received is lost, without a trace.
   It has {entries} entries{flaw}{aside}.
 - Never start the other peers of this cluster again with their data directories: two clusters
   would go on under one name. Give them empty ones; they join as new peers.
 - While a majority of the voters can still be started, do that instead: then nothing is lost.
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "On the data directory of a stopped peer, when a majority of the voters is lost for good: "
        "it becomes the only voter. What the lost majority agreed on and this peer never received "
        "is gone. Never start the others again with their data directories."
    )
    parser.add_argument(
        "--force-new-cluster",
        action="store_true",
        required=True,
        help="say that this is what you want",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="of the peer that shall go on")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")


def _run(args: argparse.Namespace) -> int:
    from p2p.storage import data_dir
    from p2p.storage.recover import make_sole_voter, salvage

    folder = data_dir.open_data_dir(resolve({"data_dir": args.data_dir})["data_dir"].value, None)
    try:
        who = data_dir.recall(folder)
        if who is None:
            raise Usage(f"{folder.path} is no peer's data directory: give --data-dir DIR")
        found = salvage(folder)
        flaw = f"; after them the log is damaged ({found.flaw})" if found.flaw else ""
        aside = f"; they are in {found.aside}…, the newest set aside" if found.aside else ""
        told = {"name": who.name, "cluster": who.cluster, "path": folder.path}
        say(RISK.format(**told, entries=found.last[0], flaw=flaw, aside=aside))
        if not args.yes and not _confirmed(who.name):
            return 1
        kept = make_sole_voter(folder, found, who.id, time.time())
        data_dir.forget_others(folder)
    finally:
        data_dir.discard_if_unused(folder)
        folder.close()
    if args.json:
        told = {"peer": who.id, "cluster": who.cluster, "entries": kept}
        print_json({**told, "flaw": found.flaw, "aside": found.aside})
    else:
        say(f"{who.name} goes on alone with {kept} entries: p2pnode --data-dir {folder.path}")
    return 0


def _confirmed(name: str) -> bool:
    """Raises Usage where nobody can be asked."""
    if not sys.stdin.isatty():
        raise Usage("nothing was changed: recover asks on a terminal; elsewhere it takes --yes")
    say(f"Type the peer's name ({name}) to go on:")
    if sys.stdin.readline().strip() == name:
        return True
    say("nothing was changed")
    return False


VERBS = (
    Verb("recover", "after a lost majority: make one stopped peer go on alone", _arguments, _run),
)
