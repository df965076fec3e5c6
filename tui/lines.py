"""What is typed after a command's name, read by the command's own parser. Pure until it is read."""

import argparse
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from tui.proposal import Proposal
from tui.snapshot import Status


@dataclass(frozen=True, slots=True)
class Typed:
    """`first` stands there already; `read` may raise P2PError, and the line stays open."""

    title: str
    command: str
    enter: str
    hint: str
    first: str
    read: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Request:
    """A line that asks the cluster for something. `refused`: what cannot be without a quorum.
    `read` is given the line and the address of the peer that is asked.
    """

    title: str
    command: str
    refused: str
    hint: str
    first: Callable[[Status | None, str | None], str]
    read: Callable[[str, str], Proposal]

    def typed(self, status: Status | None, job: str | None, address: str) -> Typed:
        enter = f"enter {self.command.rpartition(' ')[2]}s"
        first = self.first(status, job)
        return Typed(
            *(self.title, self.command, enter, self.hint),
            *(first, lambda line: self.read(line, address)),
        )


def submission(line: str, address: str) -> Proposal:
    """The request for what follows `p2pnode submit` on a command line.

    Raises Usage: a flag, a task file or a data folder that cannot be.
    """
    from p2p.verbs import submit  # argparse and the task list are only needed here

    words, args = _parsed(line, submit.VERBS[0].add_arguments)
    request = submit.job_request(args)
    if address.startswith(("127.", "localhost")):
        submit.check_task(args.task, request.get("data"))
    return Proposal(
        title="Submit a job",
        verb="submit",
        args=request,
        cli=f"p2pnode submit {shlex.join(words)}",
        done=f"{args.name or args.task} was submitted",
        ask=False,
    )


def serving(line: str, address: str) -> Proposal:
    """The request for what follows `p2pnode serve`, of a job's model. Raises Usage."""
    from p2p.errors import Usage
    from p2p.verbs import serve

    words, args = _parsed(line, serve.VERBS[0].add_arguments)
    if not serve.is_job(args):
        raise Usage("here a job's model is served, job:JOB; of a file, by p2pnode serve FILE")
    return Proposal(
        title="Serve a model",
        verb="serve",
        args=serve.job_request(args),
        cli=f"p2pnode serve {shlex.join(words)}",
        done=f"{args.name or args.model} is being served: i asks it",
        ask=False,
    )


def prompt_options(line: str) -> tuple[str, dict[str, Any]]:
    """The flags of `p2pnode prompt` about an answer, and what they mean. Raises Usage."""
    from p2p.verbs import prompt

    words, args = _parsed(line, prompt.add_options)
    return shlex.join(words), prompt.options(args)


def _parsed(
    line: str, add_arguments: Callable[[argparse.ArgumentParser], None]
) -> tuple[list[str], argparse.Namespace]:
    from p2p.errors import Usage
    from p2p.verbs.verb import Parser

    class LineParser(Parser):
        def error(self, message: str) -> NoReturn:
            raise Usage(message)

        def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
            raise Usage(message or "give it and its options")

    try:
        words = shlex.split(line)
    except ValueError as error:
        raise Usage(f"the line cannot be read: {error}") from error
    parser = LineParser(add_help=False)
    add_arguments(parser)
    return words, parser.parse_args(words)


def _trained(status: Status | None, job: str | None) -> str:
    """The chosen job, or the newest that trains or did."""
    jobs = [told for told in status.jobs if told.kind != "serve"] if status else []
    chosen = next((told for told in jobs if told.id == job), jobs[-1] if jobs else None)
    return f"job:{shlex.quote(chosen.id if chosen else 'JOB')} --replicas 1:2"


SUBMIT = Request(
    title="submit a job",
    command="p2pnode submit",
    refused="no job can be submitted",
    hint=(
        "TASK is a built-in one (digits, mnist, textgpt) or FILE.py:Class.\n"
        "--epochs N or --steps N, --peers MIN:MAX, --name N, --lr X,\n"
        "--seed N, --global-batch N, --shards V, --data PATH,\n"
        "--strategy S, --codec C, --set key=value"
    ),
    first=lambda status, job: "digits ",
    read=submission,
)
SERVE = Request(
    title="serve a model",
    command="p2pnode serve",
    refused="no model can be served",
    hint=(
        "job:JOB follows the job's newest checkpoint, job:JOB@STEP stays.\n"
        "--replicas MIN:MAX as prompts wait, --name N, --device cpu|cuda"
    ),
    first=_trained,
    read=serving,
)
LINES = {"submit": SUBMIT, "serve": SERVE}


def options_line(line: str) -> Typed:
    return Typed(
        title="options of prompts",
        command="p2pnode prompt",
        enter="enter takes them",
        hint=(
            "--temperature X (0 = always the likeliest), --max-tokens N,\n"
            "--seed N (the same gives the same text), --top-k N, --top-p X,\n"
            "--stop TEXT; an empty line = as nothing was said"
        ),
        first=line,
        read=prompt_options,
    )
