"""p2ptui as it is, with a probe on its loop: python -m tools.bench.tui_probed FILE [arguments].

A task that sleeps for PERIOD_S again and again writes how much later than that it woke, in seconds,
a line each.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any, TextIO

PERIOD_S = 0.02


async def probe(file: TextIO) -> None:
    while True:
        before_s = time.perf_counter()
        await asyncio.sleep(PERIOD_S)
        file.write(f"{time.perf_counter() - before_s - PERIOD_S:.6f}\n")


def main(arguments: list[str]) -> int:
    from tui import app, cli

    file = Path(arguments[0]).open("w", buffering=1 << 16)  # noqa: SIM115 - as long as we are

    class Probed(app.ClusterApp):
        CSS_PATH = str(Path(app.__file__).with_name("style.tcss"))

        async def run_async(self, **given: Any) -> None:
            task = asyncio.create_task(probe(file))
            try:
                await super().run_async(**given)
            finally:
                task.cancel()
                file.close()

    app.ClusterApp = Probed  # type: ignore[misc]
    return cli.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
