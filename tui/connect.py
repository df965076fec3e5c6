"""The real source: a client made at the first request, and found anew while nobody answers.

So the screen opens before any peer does, and a cluster that is started later is simply found.
"""

import argparse
import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from p2p.errors import OutcomeUnknown, P2PError, Unreachable

if TYPE_CHECKING:
    from p2p.client import Client

TIMEOUT_S = 5.0


class ClusterSource:
    """Requests to any peer of one cluster, one at a time (a client has one conversation)."""

    def __init__(
        self, addresses: str | None, token_file: str | None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._asked = argparse.Namespace(peer=addresses, token_file=token_file)
        self._timeout_s = timeout_s
        self._client: Client | None = None
        self._made_for: Sequence[str] = ()
        self._one_at_a_time = asyncio.Lock()

    @property
    def address(self) -> str:
        return self._client.address if self._client is not None else self._asked.peer or ""

    async def request(self, verb: str, /, **args: Any) -> dict[str, Any]:
        """The answer of whichever peer answers. Raises what `p2p.client.Client` raises."""
        async with self._one_at_a_time:
            client = self._client or await self._find()
            try:
                return await client.request(verb, **args)
            except (Unreachable, OutcomeUnknown):
                await self._look_again()
                raise

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _find(self) -> "Client":
        from p2p.client import Client
        from p2p.verbs.verb import target

        addresses, key = target(self._asked)
        self._client = Client(addresses, key, timeout_s=self._timeout_s)
        self._made_for = addresses
        return self._client

    async def _look_again(self) -> None:
        """All that were known are gone. Where peers are found by themselves, look for others."""
        from p2p.verbs.verb import target

        if self._asked.peer:
            return
        try:
            addresses, _ = target(self._asked)
        except P2PError:
            return
        if set(addresses) - set(self._made_for):
            await self.close()
