"""The collectives of a generation with one member: its values are the result."""

import numpy as np

from collectives.call import Call
from collectives.links import Links


class Alone:
    """Nothing has to be sent, waited for or agreed on."""

    def __init__(self, links: Links) -> None:
        self._is_alone = links.size == 1

    def takes(self, call: Call) -> bool:
        return self._is_alone

    def run(self, call: Call) -> None:
        source, out = call.source, call.out[: call.source.size]  # of a broadcast there is no out
        if source.ctypes.data == out.ctypes.data:
            return  # in place: of one value every reduction makes the value itself
        if call.reduction is not None:
            call.reduction.fold([source], out)
        elif out.size:
            np.copyto(out, source)

    def interrupt(self) -> None:
        """It never sleeps."""

    def end(self) -> None:
        """It keeps nothing."""
