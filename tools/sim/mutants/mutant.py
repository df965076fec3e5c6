"""One way to break the product."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Edit:
    """`old` occurs exactly once in `file` (relative to the repository) and becomes `new`."""

    file: str
    old: str
    new: str


class Mutant:
    """`sentence` says what is broken; most need one edit, some switch several guards off."""

    def __init__(self, name: str, sentence: str, *edits: Edit) -> None:
        self.name = name
        self.sentence = sentence
        self.edits = edits

    def modules(self) -> dict[str, str]:
        """The files that it breaks, by the modules they are."""
        files = sorted({edit.file for edit in self.edits})
        return {file.removesuffix(".py").replace("/", "."): file for file in files}

    def source(self, file: str) -> str:
        """The broken source. Raises ValueError when the product has moved on."""
        text = (ROOT / file).read_text()
        for edit in self.edits:
            if edit.file != file:
                continue
            if text.count(edit.old) != 1:
                raise ValueError(
                    f"mutant {self.name}: {edit.old!r} occurs {text.count(edit.old)} times "
                    f"in {file}"
                )
            text = text.replace(edit.old, edit.new)
        return text
