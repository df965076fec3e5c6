"""One backend and world size: runs the suite's tests one after another, a line of JSON for each.

BACKEND=p2p WORLD_SIZE=3 TEMP_DIR=… INIT_METHOD=file://… python -m tools.conformance.runner OUT
"""

import faulthandler
import json
import os
import sys
import time
import unittest
from typing import Any, TextIO


class Recorder(unittest.TestResult):
    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out
        self._began = 0.0
        self._outcome = ("pass", "")

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self._began, self._outcome = time.monotonic(), ("pass", "")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self._outcome = ("skip", reason)

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self._outcome = ("fail", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    addFailure = addError  # noqa: N815

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addUnexpectedSuccess(test)
        self._outcome = ("fail", "it was expected to fail, and passed")

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        outcome, why = self._outcome
        seconds = round(time.monotonic() - self._began, 2)
        name = test.id().rpartition(".")[2]
        line = {"test": name, "outcome": outcome, "why": why, "seconds": seconds}
        print(json.dumps(line), file=self._out, flush=True)


def main() -> None:
    faulthandler.enable()
    import torch

    import p2p.distributed.group
    import p2p.torch_backend  # noqa: F401
    from tools.conformance import suite

    torch.set_num_threads(1)
    # Forked children must find a module that pickles nothing and starts no thread before them.
    case = suite.case(suite.load())
    wanted = os.environ.get("TESTS", "").split()
    names = [
        name
        for name in unittest.TestLoader().getTestCaseNames(case)
        if not wanted or any(part in name for part in wanted)
    ]
    with open(sys.argv[1], "w") as out:
        unittest.TestSuite(case(name) for name in names).run(Recorder(out))


if __name__ == "__main__":
    main()
