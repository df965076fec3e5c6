"""The task of the scenarios: digits, as if each trainer had an accelerator of its own.

A shard takes `shard_ms` longer than it takes here, without using a core. So a scenario lasts about
as long on a busy machine as on an idle one, and more trainers than cores are worth their number.
"""

import time
from collections.abc import Mapping
from typing import Any

from p2p.tasks.digits import Digits

PIECE_S = 0.001


class Paced(Digits):
    def __init__(self, options: Mapping[str, str]) -> None:
        self.pieces = int(options.get("shard_ms", "0"))

    def loss(self, model: Any, batch: Any) -> Any:
        # In pieces, so that a process that is stopped now and then is slower by as much.
        for _ in range(self.pieces if model.training else 0):
            time.sleep(PIECE_S)
        return super().loss(model, batch)
