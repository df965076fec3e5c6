"""Puts a mutant in the place of the module it breaks, for the rest of this process."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

from tools.sim.mutants.mutant import ROOT, Mutant


class _Loader(importlib.abc.SourceLoader):
    """Compiles the broken source; never looks at, nor writes, compiled files."""

    def __init__(self, mutant: Mutant, file: str) -> None:
        self._mutant = mutant
        self._file = file

    def get_filename(self, fullname: str) -> str:
        return str(ROOT / self._file)

    def get_data(self, path: str) -> bytes:
        return self._mutant.source(self._file).encode()


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        file = self._mutant.modules().get(fullname)
        if file is None:
            return None
        return importlib.util.spec_from_loader(fullname, _Loader(self._mutant, file))


def break_product(mutant: Mutant) -> None:
    """Raises ValueError when the module was imported already, or its text has changed."""
    for module, file in mutant.modules().items():
        if module in sys.modules:
            raise ValueError(f"{module} is in use already: mutants need a fresh process")
        mutant.source(file)
    sys.meta_path.insert(0, _Finder(mutant))
