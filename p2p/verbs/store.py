"""Verbs of the key-value store: put, get, delete. Programs use p2p.client.Client."""

import argparse
import sys
from typing import TYPE_CHECKING

from p2p.errors import P2PError
from p2p.verbs.verb import Verb, add_common, asks, print_json, say

if TYPE_CHECKING:
    from p2p.client import Client


async def _put(client: "Client", args: argparse.Namespace) -> int:
    await client.put(args.key, args.value.encode())
    if args.json:
        print_json({"key": args.key})
    else:
        say(f"{args.key} is set")
    return 0


async def _get(client: "Client", args: argparse.Namespace) -> int:
    value = await client.get(args.key, stale=args.stale)
    if value is None:
        raise P2PError(f"there is no {args.key!r} in the store")
    if args.json:
        print_json({"key": args.key, "value": value.decode(errors="replace")})
    else:
        sys.stdout.buffer.write(value + b"\n")
    return 0


async def _delete(client: "Client", args: argparse.Namespace) -> int:
    if not await client.delete(args.key):
        raise P2PError(f"there is no {args.key!r} in the store")
    if args.json:
        print_json({"key": args.key})
    else:
        say(f"{args.key} is deleted")
    return 0


def _one_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")
    add_common(parser)


def _key_and_value(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY", help="1 to 256 characters")
    parser.add_argument("value", metavar="VALUE", help="at most 64 KiB")
    add_common(parser)


def _how_to_read(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stale", action="store_true", help="as the asked peer knows it, also without a quorum"
    )
    _one_key(parser)


VERBS = (
    Verb("put", "set a key of the cluster's own small store", _key_and_value, asks(_put)),
    Verb("get", "print the newest agreed value of a key", _how_to_read, asks(_get)),
    Verb("delete", "delete a key of the store", _one_key, asks(_delete)),
)
