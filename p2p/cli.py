"""p2pnode: without a verb it runs a peer, with one it asks or steers a cluster.

Imports of weight (ZeroMQ, consensus) happen only in what is run, so --help answers at once.
"""

import argparse
import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from p2p.errors import P2PError, Usage
from p2p.settings import addresses, resolve
from p2p.terminal import show_what_the_terminal_can
from p2p.verbs import (
    checkpoints,
    config,
    data,
    demo,
    export,
    prompt,
    recover,
    serve,
    show,
    steer,
    store,
    submit,
    verify,
    watch,
)
from p2p.verbs.verb import OneOf, Parser, Verb, given_key, print_json, say
from p2p.version import VERSION

# A new verb = one file and one entry here; help texts are made from this list.
VERBS: tuple[Verb, ...] = (
    *show.VERBS,
    *watch.VERBS,
    *submit.VERBS,
    *steer.VERBS,
    *checkpoints.VERBS,
    *serve.VERBS,
    *prompt.VERBS,
    *verify.VERBS,
    *store.VERBS,
    *data.VERBS,
    *export.VERBS,
    *config.VERBS,
    *demo.VERBS,
    *recover.VERBS,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; returns the exit code of the contract."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    show_what_the_terminal_can()
    try:
        code = _run_verb(args) if "run" in args else _run_peer(args)
        sys.stdout.flush()
    except P2PError as error:
        say(f"p2pnode: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        # Nobody reads our output, or its disk is full; silence Python's own complaint at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            return 0
        say(f"p2pnode: cannot write the output: {error.strerror}")
        return P2PError.exit_code
    return int(code)


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="p2pnode",
        description="Without a verb: run a peer. It founds a cluster, comes back to its own, "
        "or joins one with --join.",
    )
    parser.add_argument("--version", action="version", version=f"p2pnode {VERSION}")
    parser.add_argument("--join", metavar="HOST:PORT[,...]", help="join through any one peer")
    parser.add_argument("--token-file", metavar="FILE", help="the cluster's token, or $P2P_TOKEN")
    parser.add_argument("--name", metavar="N", help="what this peer is called")
    parser.add_argument("--cluster-name", metavar="N", help="what a new cluster is called")
    parser.add_argument("--listen", metavar="HOST:PORT", help="default: first free from 7700 on")
    parser.add_argument("--advertise", metavar="HOST:PORT", help="where others reach this peer")
    parser.add_argument("--data-dir", metavar="DIR", help="where this peer keeps its state")
    parser.add_argument("--slots", metavar="N", type=int, help="trainers it offers (1, or GPUs)")
    parser.add_argument("--device", metavar="D", help="its trainers' device: auto, cpu or cuda")
    parser.add_argument("--allow-faults", action="store_true", default=None, help="for drills")
    parser.add_argument("--metrics-port", metavar="[HOST:]PORT", help="metrics for Prometheus")
    parser.add_argument("--http", metavar="[HOST:]PORT", help="door for OpenAI's clients")
    parser.add_argument("--http-token-file", metavar="FILE", help="its token, or $P2P_HTTP_TOKEN")
    parser.add_argument("--json", action="store_true", help="announce the peer as JSON")
    verbs = parser.add_subparsers(metavar="VERB", dest="verb", action=OneOf)
    for verb in VERBS:
        sub = verbs.add_parser(verb.name, help=verb.help, description=verb.help)
        verb.add_arguments(sub)
        sub.set_defaults(run=verb.run)
    return parser


def _run_verb(args: argparse.Namespace) -> int:
    """SIGTERM ends it as an exception does: what was opened is closed, the exit code is 143."""
    signal.signal(signal.SIGTERM, _end)
    return int(args.run(args))


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _run_peer(args: argparse.Namespace) -> int:
    from p2p import host
    from p2p.watch import rules_file
    from p2p.watch.notify import checked_url

    resolved = resolve(vars(args))
    settings = {name: found.value for name, found in resolved.items()}
    if settings["slots"] < 0:
        build_parser().error("--slots must not be negative")
    if settings["files_gb"] < 0:
        raise Usage(f"files_gb is {settings['files_gb']}: it must not be negative")
    if settings["metrics_port"] and not settings["measure"]:
        raise Usage("--metrics-port has nothing to show: measure is false in the settings")
    if resolved["http_token_file"].source == "flag" and not settings["http"]:
        raise Usage("--http-token-file is for a door: give --http [HOST:]PORT, too")
    options = host.Options(
        name=settings["name"],
        listen=settings["listen"],
        advertise=settings["advertise"],
        data_dir=settings["data_dir"],
        slots=None if resolved["slots"].source == "default" else settings["slots"],
        device=settings["device"],
        allow_faults=settings["allow_faults"],
        files_gb=settings["files_gb"],
        measure=settings["measure"],
        metrics_port=settings["metrics_port"],
        http=settings["http"],
        http_token_file=settings["http_token_file"],
        rules=rules_file.read(settings["alert_rules"]),
        notify_command=settings["notify_command"],
        notify_url=checked_url(settings["notify_url"]),
        join=() if args.join is None else addresses(args.join, "--join"),
        key=given_key(settings["token_file"]),
        cluster_name=args.cluster_name,
    )
    return host.run(options, print_json if args.json else _announce)


def _announce(told: dict[str, Any]) -> None:
    cluster = told["cluster"]
    verb = "founded" if told["founded"] else "is in"
    print(f"{told['name']} listens on {told['address']} and {verb} {cluster['name']}")
    print(f"join from this host:   p2pnode --join {told['address']}")
    print(f"join from elsewhere:   {told['join']}")
    if "metrics" in told:
        print(f"for Prometheus:        {told['metrics']}")
    if "http" in told:
        print(f"for OpenAI's clients:  {told['http']}")
    print("look at it:            p2ptui        stop: Ctrl-C", flush=True)


if __name__ == "__main__":
    sys.exit(main())
