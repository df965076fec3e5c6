"""p2ptui: attach to any peer of a cluster, see everything, steer it.

Nothing of weight is imported before it is needed: --help answers at once.
"""

import argparse
import asyncio
import gc
import os
import shutil
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.feed import Source

INTERVAL_MIN_S, INTERVAL_MAX_S = 0.25, 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; returns the exit code of the contract."""
    from p2p.errors import P2PError
    from p2p.terminal import show_what_the_terminal_can

    args = build_parser().parse_args(arguments)
    show_what_the_terminal_can()
    try:
        check(args)
        if args.serve:
            return serve(args)
        if args.demo is not None:
            return demo(args)
        return once(args) if args.once or not has_terminal() else run(args)
    except P2PError as error:
        print(f"p2ptui: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; silence Python's own complaint at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def build_parser() -> argparse.ArgumentParser:
    from p2p.verbs.verb import Parser

    parser = Parser(
        prog="p2ptui",
        description="See and steer a cluster through any one of its peers. Press ? for the keys.",
        epilog="Not on a terminal, or with --once, it prints one snapshot and ends: exit code 0, "
        "or 3 when no peer answers, 4 when refused.",
    )
    parser.add_argument(
        "peer", metavar="HOST:PORT[,...]", nargs="?", help="peers to ask (default: yours, here)"
    )
    may = parser.add_mutually_exclusive_group()
    may.add_argument("--read-only", action="store_true", help="look, but change nothing")
    may.add_argument("--read-write", action="store_true", help="let a --serve'd screen steer too")
    parser.add_argument("--interval", metavar="S", type=float, default=1.0, help="refresh (1 s)")
    parser.add_argument("--once", action="store_true", help="print one snapshot and end")
    parser.add_argument("--view", metavar="NAME", default="overview", help="overview, peers …")
    parser.add_argument("--record", metavar="FILE", help="write down all that is shown")
    parser.add_argument("--replay", metavar="FILE", help="show a recording instead of a cluster")
    parser.add_argument("--serve", metavar="[HOST:]PORT", help="in a browser of this machine")
    parser.add_argument(
        *("--demo",),
        metavar="NAME|FILE",
        nargs="?",
        const="",
        help="play scenarios on a cluster of their own, in turn, or this one once; any key stops",
    )
    parser.add_argument("--peers", metavar="N", type=int, help="how many a --demo begins with")
    parser.add_argument("--served-by", metavar="PID", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--token-file", metavar="FILE", help="the cluster's token, or $P2P_TOKEN")
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII characters only")
    return parser


def check(args: argparse.Namespace) -> None:
    """Raises Usage for what cannot be, before a screen opens over the message."""
    from p2p.errors import Usage
    from p2p.settings import addresses

    if not INTERVAL_MIN_S <= args.interval <= INTERVAL_MAX_S:
        raise Usage(f"--interval takes {INTERVAL_MIN_S:g} to {INTERVAL_MAX_S:g} seconds")
    from tui.views.names import NAMES

    if args.view not in NAMES:
        raise Usage(f"no view {args.view!r}: there is {', '.join(NAMES)}")
    if args.replay and (args.peer or args.record):
        raise Usage("--replay shows a file: it takes no HOST:PORT and no --record")
    if args.serve and (args.once or args.record):
        raise Usage("--serve opens a screen per browser: it takes no --once and no --record")
    if args.peer is not None:
        addresses(args.peer, "peer")
    if args.token_file:
        from p2p.verbs.verb import given_key

        given_key(args.token_file)


def has_terminal() -> bool:
    """Textual reads stdin and draws on stderr; without a terminal there it would hang for ever.

    A driver of its own (a web terminal) brings its terminal along.
    """
    if os.environ.get("TEXTUAL_DRIVER"):
        return True
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(stream.isatty() for stream in streams) and os.environ.get("TERM") != "dumb"


def once(args: argparse.Namespace) -> int:
    """Print one snapshot. Raises Unreachable, Refused … as the client does."""
    from p2p.errors import P2PError
    from tui.feed import Feed
    from tui.plain import render
    from tui.scene import Scene
    from tui.snapshot import BadAnswer, Snapshot
    from tui.wanted import wants

    async def ask() -> Snapshot:
        source, close = open_source(args)
        feed = Feed(source, lambda _: None)
        try:
            await feed.poll()
            for _ in range(2):  # what there is to choose from is known after the first
                feed.wants = wants(Scene(snapshot=feed.snapshot, view=args.view))
                await feed.poll()
        except BadAnswer as error:
            raise P2PError(str(error)) from error
        finally:
            await close()
        return feed.snapshot

    scene = Scene(snapshot=asyncio.run(ask()), ascii_only=args.ascii, view=args.view)
    columns = shutil.get_terminal_size((120, 40)).columns
    print(render(scene, max(80, columns)))
    return 0


def serve(args: argparse.Namespace) -> int:
    """Browsers' screens, until a signal. Raises Usage where textual-serve is missing."""
    from p2p.errors import Usage

    try:
        from tui.serve import serve as serve_screens
    except ImportError as error:
        raise Usage("--serve needs textual-serve: pip install 'p2pnode[serve]'") from error
    given = [] if args.read_write else ["--read-only"]
    for name in ("interval", "view", "replay", "token_file"):
        if (value := getattr(args, name)) is not None:
            given += [f"--{name.replace('_', '-')}", str(value)]
    given += ["--ascii"] * args.ascii + [args.peer] * (args.peer is not None)
    return asyncio.run(serve_screens(given, args.serve, args.read_write))


def run(args: argparse.Namespace) -> int:
    """The screen, until the user leaves it or a signal ends it (143)."""
    if args.served_by is not None:
        from p2p.training.death import die_with

        die_with(args.served_by)
    gc.disable()  # until the first frame: there is nothing to collect yet, and it is a tenth of it
    from tui.app import ClusterApp
    from tui.giving_back import GivenBack
    from tui.tape import Replay

    async def show() -> int:
        source, close = open_source(args)
        app = ClusterApp(
            source,
            args.interval,
            args.read_only,
            args.ascii or not is_unicode(),
            view=args.view,
            replay=source if isinstance(source, Replay) else None,
            records=bool(args.record),
            expect_end=terminal.expect_end,
        )
        try:
            await app.run_async()
        finally:
            await close()
        return app.return_code or 0

    with GivenBack() as terminal:
        return asyncio.run(show())


def demo(args: argparse.Namespace) -> int:
    """Scenarios until any key is pressed, or a single one to its end; 0 if all held, else 1.

    Raises Usage without a terminal, P2PError when they cannot be played.
    """
    from p2p.errors import P2PError, Usage
    from p2p.scenarios.catalog import ALL, find
    from p2p.scenarios.report import summary

    if not has_terminal():
        raise Usage("--demo needs a terminal: `p2pnode demo --headless` plays the same scenarios")
    find(args.demo or ALL)
    from tui.demo_app import DemoApp

    arguments = ["--scenario", args.demo or ALL]
    arguments += [] if args.peers is None else ["--peers", str(args.peers)]

    async def show() -> int:
        plain = args.ascii or not is_unicode()
        app = DemoApp(arguments, not args.demo, interval_s=args.interval, ascii_only=plain)
        try:
            await app.run_async()
        finally:
            print("p2ptui: the demonstration's peers are stopped", file=sys.stderr)
            await app.close()
        if app.failed:
            raise P2PError(app.failed)
        if app.demo.report is not None:
            print(summary(app.demo.report))
            return 0 if app.demo.report["ok"] else 1
        return app.return_code or 0

    return asyncio.run(show())


def open_source(
    args: argparse.Namespace,
) -> "tuple[Source, Callable[[], Coroutine[None, None, None]]]":
    """A cluster, perhaps written down, or a recording; and how it is closed."""
    from tui.connect import ClusterSource
    from tui.tape import Recorder, Replay

    if args.replay:
        replay = Replay(args.replay)

        async def close_file() -> None:
            replay.close()

        return replay, close_file
    cluster = ClusterSource(args.peer, args.token_file)
    if not args.record:
        return cluster, cluster.close
    recorder = Recorder(cluster, args.record)

    async def close_both() -> None:
        recorder.close()
        await cluster.close()

    return recorder, close_both


def is_unicode() -> bool:
    """Can the terminal's encoding show braille and box lines?"""
    return "utf" in (getattr(sys.stderr, "encoding", "") or "").lower()


if __name__ == "__main__":
    sys.exit(main())
