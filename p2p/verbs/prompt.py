"""prompt: ask a served model, once or in a conversation."""

import argparse
from typing import TYPE_CHECKING

from p2p.generation import Generation
from p2p.verbs.verb import Verb, add_common, asks, print_json, say

if TYPE_CHECKING:
    from p2p.client import Client


async def prompt(client: "Client", args: argparse.Namespace) -> int:
    asked = client.generate(args.text, **options(args))
    if args.json:
        text = "".join([piece async for piece in asked])
        print_json({"text": text, **told(asked)})
        return 0
    async for piece in asked:
        print(piece, end="", flush=True)
    print()
    say(summary(asked))
    return 0


def options(args: argparse.Namespace) -> dict[str, object]:
    names = ("model", "max_tokens", "temperature", "top_k", "top_p", "seed", "stop")
    return {name: value for name in names if (value := getattr(args, name)) not in (None, [])}


def told(asked: Generation) -> dict[str, object]:
    end = asked.end
    assert end is not None
    return {
        "model": end.model,
        "peer": end.peer,
        "replica": end.replica,
        "reason": end.reason,
        "seed": asked.seed,
        "usage": {
            "prompt_tokens": end.prompt_tokens,
            "completion_tokens": end.completion_tokens,
        },
        "seconds": round(end.seconds, 3),
        "moves": end.moves,
    }


def summary(asked: Generation) -> str:
    """Who answered, in one line."""
    end = asked.end
    assert end is not None
    moved = f", after {end.moves} moves" if end.moves else ""
    return (
        f"[{end.model} on {end.peer} (replica {end.replica}), {end.completion_tokens} tokens in "
        f"{end.seconds:.2f} s, {end.reason}{moved}, seed {asked.seed}]"
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help="id or name (the only one)")
    parser.add_argument("text", metavar="TEXT", nargs="?", help="without it: a conversation")
    parser.add_argument("--max-tokens", metavar="N", type=int)
    parser.add_argument("--temperature", metavar="X", type=float, help="0 = always the likeliest")
    parser.add_argument("--top-k", metavar="N", type=int)
    parser.add_argument("--top-p", metavar="X", type=float)
    parser.add_argument("--seed", metavar="N", type=int, help="the same seed gives the same text")
    parser.add_argument("--stop", metavar="TEXT", action="append", default=[])
    add_common(parser)


VERBS = (Verb("prompt", "ask a served model", _arguments, asks(prompt)),)
