"""Whether a model fits, asked before anything large is allocated. Pure."""

from p2p.errors import P2PError

# Weights are read from their files while the model holds its own, and laid out anew for serving.
WEIGHTS_COPIES = 3
MIB = 1 << 20


class TooLarge(P2PError):
    """Another machine, or fewer models here, may do."""


def check_weights(name: str, weights_bytes: int, free_bytes: int) -> None:
    """Raises TooLarge when loading would take more than is free."""
    if (needed := WEIGHTS_COPIES * weights_bytes) > free_bytes:
        raise TooLarge(f"{name} needs {_mib(needed)} to be loaded, and {_mib(free_bytes)} are free")


def streams_that_fit(name: str, stream_bytes: int, wanted: int, free_bytes: int) -> int:
    """How many streams' caches fit, from 1 to `wanted`. Raises TooLarge when none does."""
    fit = free_bytes // max(1, stream_bytes)
    if fit < 1:
        raise TooLarge(
            f"{name} needs {_mib(stream_bytes)} for the context of one answer, and "
            f"{_mib(free_bytes)} are free"
        )
    return min(wanted, fit)


def _mib(count: int) -> str:
    return f"{max(1, round(count / MIB)):,} MiB"
