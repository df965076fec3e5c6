"""A conversation with a served model, at a terminal: answers as they come, a few commands."""

import argparse
import contextlib
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from p2p.errors import P2PError
from p2p.verbs.prompt import shown, summary
from p2p.verbs.serve import models_text
from p2p.verbs.show import status_text
from p2p.verbs.verb import ask_once, say, sync_client, table

MESSAGES_MAX = 40  # of the conversation, that a chat model is told again
TEST_PROMPT = "Hello"
TEST_TOKENS = 16

HELP = """\
status   the cluster, its peers and its jobs
actors   the replicas that answer, and where
models   the models that are served; `model NAME` changes to another
test     one short prompt to each model
help     this
quit     or Ctrl-D: end
Anything else is a prompt; `/ TEXT` is one even if it is a command. Ctrl-C stops an answer."""


class Conversation:
    """`ask` is a request to the cluster, `generate` begins an answer, `show` writes a line."""

    def __init__(
        self,
        ask: Callable[[str], Mapping[str, Any]],
        generate: Callable[..., Any],
        show: Callable[[str], None],
        model: str | None,
        options: Mapping[str, Any],
    ) -> None:
        self._ask, self._generate, self._show = ask, generate, show
        self._model, self._options = model, options
        self._id = uuid.uuid4().hex
        self._messages: list[dict[str, str]] = []

    def hear(self, line: str) -> bool:
        """Do what was typed; False = that was the end. Raises nothing but KeyboardInterrupt."""
        word, _, rest = line.strip().partition(" ")
        try:
            if word in ("quit", "exit") and not rest:
                return False
            if word == "/":
                self._prompt(rest)
            elif word == "model" and rest:
                self._change(rest.strip())
            elif word in _COMMANDS and not rest:
                _COMMANDS[word](self)
            elif line.strip():
                self._prompt(line)
        except P2PError as error:
            self._show(f"p2pnode: {error}")
        return True

    def _prompt(self, text: str) -> None:
        said = {"role": "user", "content": text}
        chat, answer = False, ""
        try:
            chat = self._is_chat()
            question: Any = [*self._messages, said] if chat else text
            options = {"model": self._model, "conversation": self._id, **self._options}
            asked = self._generate(question, **options)
            for piece in asked:
                answer += piece
                print(shown(piece), end="", flush=True)
        except KeyboardInterrupt:
            print()
            self._show("[stopped]")
            return
        finally:
            if chat and answer:
                spoken = [said, {"role": "assistant", "content": answer}]
                self._messages = [*self._messages, *spoken][-MESSAGES_MAX:]
        print()
        self._show(summary(asked))

    def _is_chat(self) -> bool:
        """Whether the model was made for conversations: others only go on with a text."""
        told = [each for each in self._served() if self._model in (None, each["name"], each["id"])]
        return len(told) == 1 and str(told[0]["source"]).startswith("hf:")

    def _served(self) -> list[dict[str, Any]]:
        return list(self._ask("models")["models"])

    def _change(self, name: str) -> None:
        known = [each["name"] for each in self._served()]
        if name not in known:
            raise P2PError(f"no model {name!r} is served: there are {', '.join(known) or 'none'}")
        self._model, self._messages = name, []
        self._show(f"prompts go to {name}")

    def _status(self) -> None:
        self._show(status_text(dict(self._ask("status"))))

    def _models(self) -> None:
        self._show(models_text(dict(self._ask("models"))))

    def _actors(self) -> None:
        rows = [
            [each["name"], replica["peer_name"], replica["replica"], str(replica["revision"])]
            for each in self._served()
            for replica in each["replicas"]
        ]
        self._show(table(["MODEL", "PEER", "REPLICA", "REVISION"], rows) if rows else "no replicas")

    def _test(self) -> None:
        for each in self._served():
            asked = self._generate(
                TEST_PROMPT, model=each["id"], max_tokens=TEST_TOKENS, temperature=0.0
            )
            text = "".join(asked)
            self._show(f"{each['name']}: {text!r} {summary(asked)}")

    def _help(self) -> None:
        self._show(HELP)


_COMMANDS: dict[str, Callable[[Conversation], None]] = {
    "status": Conversation._status,
    "actors": Conversation._actors,
    "models": Conversation._models,
    "test": Conversation._test,
    "help": Conversation._help,
}


def converse(args: argparse.Namespace, model: str | None, options: Mapping[str, Any]) -> int:
    """Until `quit` or the end of input."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - input() then has a history and can be edited
    known = ask_once(args, "models")["models"]
    names = ", ".join(each["name"] for each in known) or "none yet"
    say(f"models: {names}; `help` says what there is besides prompts")
    with sync_client(args) as client:
        talk = Conversation(lambda verb: ask_once(args, verb), client.generate, say, model, options)
        while True:
            try:
                if not talk.hear(input("> ")):
                    return 0
            except EOFError:
                print()
                return 0
            except KeyboardInterrupt:
                print()
