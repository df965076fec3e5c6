"""prompt: ask a served model, once or in a conversation."""

import argparse
import sys
from typing import Any

from p2p.errors import P2PError, Usage
from p2p.verbs.verb import Verb, add_common, ask_once, print_json, say, sync_client

OPTIONS = ("max_tokens", "temperature", "top_k", "top_p", "seed", "stop")


def prompt(args: argparse.Namespace) -> int:
    model, text = _read(args)
    if text is None:
        from p2p.verbs.conversation import converse

        return converse(args, model, options(args))
    with sync_client(args) as client:
        asked = client.generate(text, model=model, **options(args))
        if args.json:
            said = "".join(asked)
            print_json({"text": said, **told(asked)})
            return 0
        for piece in asked:
            print(shown(piece), end="", flush=True)
    print()
    say(summary(asked))
    return 0


def _read(args: argparse.Namespace) -> tuple[str | None, str | None]:
    """The model and the text, of which both may be left out. One word that names a model is it."""
    model, text = args.model, args.text
    if model is not None and text is None:
        known = ask_once(args, "models")["models"]
        if not any(model in (each["name"], each["id"]) for each in known):
            model, text = None, model
    if text is None and not sys.stdin.isatty():
        text = sys.stdin.read().removesuffix("\n")
        if not text:
            raise Usage("there is no prompt: give TEXT, or write it to stdin")
    if text is None and args.json:
        raise Usage("--json is for one answer: give TEXT")
    return model, text


def shown(text: str) -> str:
    """As a terminal may be given it: what a model says shall not steer it."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def options(args: argparse.Namespace) -> dict[str, object]:
    return {name: value for name in OPTIONS if (value := getattr(args, name)) not in (None, [])}


def told(asked: Any) -> dict[str, object]:
    """Of a p2p.generation.Generation that has ended, what JSON says of it."""
    end = asked.end
    usage = {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.completion_tokens}
    return {
        "model": end.model,
        "peer": end.peer,
        "replica": end.replica,
        "reason": end.reason,
        "seed": asked.seed,
        "usage": usage,
        "seconds": round(end.seconds, 3),
        "moves": end.moves,
    }


def summary(asked: Any) -> str:
    """Who answered, in one line."""
    end = asked.end
    times = "once" if end.moves == 1 else f"{end.moves} times"
    moved = f", gone on with elsewhere {times}" if end.moves else ""
    return (
        f"[{end.model} on {end.peer}, replica {end.replica}: {end.completion_tokens} tokens in "
        f"{end.seconds:.2f} s, {end.reason}{moved}; seed {asked.seed}]"
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help="id or name (the only one)")
    parser.add_argument("text", metavar="TEXT", nargs="?", help="without it: a conversation")
    add_options(parser)
    add_common(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of how an answer is made."""
    parser.add_argument("--max-tokens", metavar="N", type=int, help="at most so many (256)")
    parser.add_argument("--temperature", metavar="X", type=float, help="0 = always the likeliest")
    parser.add_argument("--top-k", metavar="N", type=int, help="draw among the N likeliest")
    parser.add_argument("--top-p", metavar="X", type=float, help="draw among the likeliest X")
    parser.add_argument("--seed", metavar="N", type=int, help="the same seed gives the same text")
    parser.add_argument("--stop", metavar="TEXT", action="append", default=[], help="end before it")


def interruptible(args: argparse.Namespace) -> int:
    try:
        return prompt(args)
    except P2PError:
        if sys.stdout.isatty():
            print()  # what came so far stays a line of its own
        raise


VERBS = (Verb("prompt", "ask a served model", _arguments, interruptible),)
