"""Stories of what Raft does, as text: commands, "----", and what was seen.

    # Why the outcome below is right.
    campaign a
    ----
    a is pre-candidate in term 0

A blank line ends a block. `python -m tests.transcript_runner --record [NAME …]` writes what
happens now into the files: read the difference before you commit it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.transcript_world import World

FOLDER = Path(__file__).parent / "transcripts"
RULE = "----"
NOTHING = "nothing"


@dataclass(frozen=True)
class Block:
    """Comment lines as they are, commands, and what was seen when it was recorded."""

    comment: tuple[str, ...]
    commands: tuple[str, ...]
    seen: tuple[str, ...]

    def text(self) -> str:
        told = (RULE, *self.seen) if self.commands else ()
        return "\n".join((*self.comment, *self.commands, *told)) + "\n"


def blocks(text: str) -> Iterator[Block]:
    for part in text.strip().split("\n\n"):
        lines = part.strip("\n").splitlines()
        rule = lines.index(RULE) if RULE in lines else len(lines)
        commands = tuple(line for line in lines[:rule] if not line.startswith("#"))
        comment = tuple(line for line in lines[:rule] if line.startswith("#"))
        yield Block(comment, commands, tuple(lines[rule + 1 :]))


def played(text: str) -> str:
    """The story with what happens now."""
    world = World()
    now = []
    for block in blocks(text):
        seen = [line for command in block.commands for line in world.do(command)]
        now.append(Block(block.comment, block.commands, tuple(seen) or (NOTHING,)).text())
    return "\n".join(now)


def stories() -> list[Path]:
    return sorted(FOLDER.glob("*.txt"))


def main(arguments: list[str]) -> None:
    chosen = set(arguments) - {"--record"}
    for path in stories():
        if not chosen or path.stem in chosen:
            text = played(path.read_text())
            if "--record" in arguments:
                path.write_text(text)
            else:
                print(f"== {path.stem}\n{text}")


if __name__ == "__main__":
    main(sys.argv[1:])
