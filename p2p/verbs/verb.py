"""What a verb of the command line is, and what all verbs share: asking a peer, printing."""

import argparse
import asyncio
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from p2p.errors import Unreachable, Usage
from p2p.settings import addresses, resolve

if TYPE_CHECKING:
    from p2p.client import Client
    from p2p.wire.keys import ClusterKey

    _SubParsers = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    _SubParsers = argparse._SubParsersAction

WATCH_EVERY_S = 1.0
# An election takes up to 3 s; what is not decided after two of them will not be soon.
ANSWER_TIMEOUT_S = 6.0


class Parser(argparse.ArgumentParser):
    """What is wrong is said in one sentence; a flag's name is written out, so that a script does
    not mean another one when there are more of them.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        self.exit(Usage.exit_code, f"{self.prog}: {message}; see `{self.prog} --help`\n")


class OneOf(_SubParsers):
    """A verb takes its own flags, behind it: what was said before it about a peer that shall run is
    refused, not forgotten.
    """

    common: tuple[str, ...] = ("json", "token_file")

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        said = [name for name, value in vars(namespace).items() if value not in (None, False)]
        misplaced = [name for name in said if name not in self.common and name != self.dest]
        if misplaced and values[0] in self.choices and values[0] != "config":
            flag = f"--{misplaced[0].replace('_', '-')}"
            parser.error(f"{flag} before a verb is for a peer that shall run, not for {values[0]}")
        super().__call__(parser, namespace, values, option_string)


Ask = Callable[["Client", argparse.Namespace], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Action:
    """One of several things that a verb does."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    ask: Ask


@dataclass(frozen=True, slots=True)
class Verb:
    """`run` returns the exit code; a P2PError it raises is printed and becomes the exit code."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_common(parser: argparse.ArgumentParser, watch: bool = False) -> None:
    """The options of every verb that asks a peer."""
    parser.add_argument("--peer", metavar="HOST:PORT[,...]", help="ask these peers")
    # Before the verb they are the main parser's: what is not said after it must not undo that.
    unsaid = argparse.SUPPRESS
    parser.add_argument("--token-file", metavar="FILE", default=unsaid, help="the cluster's token")
    parser.add_argument("--json", action="store_true", default=unsaid, help="print JSON")
    if watch:
        parser.add_argument("--watch", action="store_true", help="print again when it changes")


def add_actions(parser: argparse.ArgumentParser, actions: Sequence[Action]) -> None:
    """What a verb does is its first word, each with options of its own: see `act`."""
    added = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    for action in actions:
        own = added.add_parser(action.name, help=action.help, description=action.help)
        action.add_arguments(own)
        add_common(own)
        own.set_defaults(ask=action.ask)


async def act(client: "Client", args: argparse.Namespace) -> int:
    """The question of the action that was given."""
    code: int = await args.ask(client, args)
    return code


def asks(question: Ask) -> Callable[[argparse.Namespace], int]:
    """Make a verb's `run` of a coroutine that is given a connected-on-demand client."""

    def run(args: argparse.Namespace) -> int:
        async def main() -> int:
            client = client_of(args)
            try:
                return await question(client, args)
            finally:
                await client.close()

        return asyncio.run(main())

    return run


async def show(
    client: "Client",
    args: argparse.Namespace,
    verb: str,
    text: Callable[[dict[str, Any]], str],
    as_json: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    **request: Any,
) -> int:
    """Print the answer; with --watch again and again, as text when it has changed."""
    last = None
    while True:
        answer = await client.request(verb, **request)
        shown = text(answer)
        if args.json:
            print_json(as_json(answer))
        elif shown != last:
            print(shown, flush=True)
        last = shown
        if not getattr(args, "watch", False):
            return 0
        await asyncio.sleep(WATCH_EVERY_S)


def client_of(args: argparse.Namespace) -> "Client":
    """Raises Unreachable or Refused."""
    from p2p.client import Client

    addresses, key = target(args)
    return Client(addresses, key, timeout_s=ANSWER_TIMEOUT_S)


@contextmanager
def sync_client(args: argparse.Namespace) -> Iterator["Client"]:
    """For code without an event loop."""
    client = client_of(args)
    try:
        yield client
    finally:
        asyncio.run(client.close())


def ask_once(args: argparse.Namespace, verb: str) -> dict[str, Any]:
    """The answer to one request. Raises P2PError."""

    async def main() -> dict[str, Any]:
        client = client_of(args)
        try:
            return await client.request(verb)
        finally:
            await client.close()

    return asyncio.run(main())


def target(args: argparse.Namespace) -> tuple[list[str], "ClusterKey"]:
    """Which peers to ask, with which key. Raises Unreachable or Refused."""
    from p2p.client import discover, key_for

    settings = resolve({"peer": args.peer, "token_file": args.token_file})
    given = settings["peer"]
    by = "--peer" if given.source == "flag" else f"peer, from {given.source}"
    # Whatever is used in the end: what is written wrong is said.
    named = list(addresses(given.value, by)) if given.value or given.source == "flag" else []
    token_key = given_key(settings["token_file"].value)
    found, key = discover() if given.source != "flag" else ([], None)
    if not found:
        found, key = named, None
    if not found:
        raise Unreachable(
            "no peer of yours runs on this host: start one with `p2pnode`, or give --peer HOST:PORT"
        )
    return found, token_key or key or key_for(found, None)


def given_key(token_file: str | None) -> "ClusterKey | None":
    """The key from --token-file or $P2P_TOKEN. Raises Usage if it is not a token."""
    from p2p.runtime_dir import read_token
    from p2p.wire.keys import parse_token

    if token_file:
        key = read_token(Path(token_file).expanduser())
        if key is None:
            raise Usage(f"there is no token file {token_file}")
        return key
    if "P2P_TOKEN" in os.environ:
        return parse_token(os.environ["P2P_TOKEN"])
    return None


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """key=value settings. Raises Usage."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Usage(f"{text!r} is no setting: expected key=value")
        found[name] = value
    return found


def print_json(value: dict[str, Any]) -> None:
    print(json.dumps({"schema": 1, **value}), flush=True)


def say(text: str) -> None:
    """A message for people: stderr, so that stdout stays data."""
    print(text, file=sys.stderr, flush=True)


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Columns as wide as their widest cell, two spaces apart, no trailing space. Where the terminal
    ($COLUMNS) is too narrow for that, each row's last cell is wrapped below it.
    """
    told = [headings, *rows]
    widths = [max(len(row[i]) for row in told) for i in range(len(headings))]
    room = shutil.get_terminal_size((0, 0)).columns  # 0 = a file or a pipe
    if not 0 < room < sum(widths) + 2 * (len(widths) - 1):
        return "\n".join(_line(row, widths) for row in told)
    lines = [_line(headings[:-1], widths[:-1])]
    for row in rows:
        lines.append(_line(row[:-1], widths[:-1]))
        below = textwrap.TextWrapper(max(room, 20), break_long_words=False)
        below.initial_indent = below.subsequent_indent = "    "
        lines += below.wrap(row[-1])
    return "\n".join(lines)


def _line(row: list[str], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def megabytes(size_bytes: float) -> str:
    if 0 < size_bytes < 1e6:
        return f"{size_bytes / 1e3:.0f} kB"
    return f"{size_bytes / 1e6:.0f} MB"
