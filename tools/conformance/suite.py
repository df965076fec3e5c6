"""PyTorch's distributed_test.py with "p2p" in the places where it names gloo.

The suite chooses its tests by the backend's name when it is imported. Its lists are widened from
gloo to "gloo or p2p", its comparisons so in the source text before it is compiled; what only MPI
could do on CPU (all_to_all) is asked of p2p as well. Nothing else of it changes, and with
BACKEND=gloo it decides as before.
"""

import importlib.util
import sys
import types
import unittest
from pathlib import Path
from typing import Any

NAME = "torch.testing._internal.distributed.distributed_test"
WIDENED = {
    'BACKEND != "gloo"': 'BACKEND not in ("gloo", "p2p")',
    'BACKEND == "gloo"': 'BACKEND in ("gloo", "p2p")',
    'BACKEND != "mpi", "Only MPI': 'BACKEND not in ("mpi", "p2p"), "Only MPI',
    'require_backend_is_available({"gloo"})': 'require_backend_is_available({"gloo", "p2p"})',
}


def load() -> types.ModuleType:
    """The suite, compiled under its own name. Reads BACKEND, WORLD_SIZE and TEMP_DIR from the
    environment. Raises LookupError when a place to widen is not there any more."""
    from torch.testing._internal.common_distributed import DistTestCases

    for backends in DistTestCases.backend_feature.values():
        if "gloo" in backends:
            backends.add("p2p")
    DistTestCases.backend_feature["plugin"].add("p2p")
    spec = importlib.util.find_spec(NAME)
    if spec is None or spec.origin is None:
        raise LookupError(f"the installed torch has no {NAME}")
    text = Path(spec.origin).read_text()
    for old, new in WIDENED.items():
        if old not in text:
            raise LookupError(f"{spec.origin} has no {old!r} any more: look at it again")
        text = text.replace(old, new)
    module = types.ModuleType(NAME)
    module.__file__ = spec.origin
    sys.modules[NAME] = module
    exec(compile(text, spec.origin, "exec"), module.__dict__)
    return module


def case(module: Any) -> type[unittest.TestCase]:
    """The tests as PyTorch's own test/distributed/test_distributed_spawn.py makes them, except that
    the ranks are forked from a process that has imported torch, which takes 3 s otherwise."""
    import torch

    class TestDistributed(module.TestDistBackend, module.DistributedTest._DistTestBase):  # type: ignore[misc]
        def setUp(self) -> None:
            super().setUp()
            self._start_processes(torch.multiprocessing.get_context("fork").Process)

    # Subclasses that are generated for parametrized tests; as the spawning file of PyTorch does.
    instantiate = module.instantiate_parametrized_tests
    return instantiate(TestDistributed)  # type: ignore[no-any-return]
