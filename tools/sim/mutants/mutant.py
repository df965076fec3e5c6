"""One way to break the product."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` occurs exactly once in `file` (relative to the repository) and becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    sentence: str

    @property
    def module(self) -> str:
        return self.file.removesuffix(".py").replace("/", ".")

    def source(self) -> str:
        """The broken source. Raises ValueError when the product has moved on."""
        text = (ROOT / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(
                f"mutant {self.name}: its text occurs {text.count(self.old)} times in {self.file}"
            )
        return text.replace(self.old, self.new)
