"""The real source: a client made at the first request, and found anew while nobody answers.

So the screen opens before any peer does, and a cluster that is started later is simply found.
"""

import argparse
import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from p2p.errors import OutcomeUnknown, P2PError, Unreachable
from tui.chat import Question

if TYPE_CHECKING:
    from p2p.client import Client
    from p2p.generation import Generation

TIMEOUT_S = 5.0


class ClusterSource:
    """Requests to any peer of one cluster, one at a time (a client has one conversation)."""

    def __init__(
        self, addresses: str | None, token_file: str | None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._asked = argparse.Namespace(peer=addresses, token_file=token_file)
        self._timeout_s = timeout_s
        self._client: Client | None = None
        self._asking: Client | None = None  # for answers
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

    async def generate(self, prompt: Question, **options: Any) -> "Generation":
        """An answer to iterate. Over connections of its own: those of the requests are closed when
        their peers are gone, and an answer goes on at other peers.
        """
        from p2p.client import Client

        async with self._one_at_a_time:
            known = self._client or await self._find()
            if self._asking is None or self._asking.known != known.known:
                old, self._asking = self._asking, Client(known.known, known.key, self._timeout_s)
                if old is not None:
                    await old.close()
        self._asking.address = known.address
        return self._asking.generate(prompt, **options)

    async def close(self) -> None:
        clients, self._client, self._asking = (self._client, self._asking), None, None
        for client in clients:
            if client is not None:
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
        client = self._client
        if client is not None and set(addresses) - set(self._made_for):
            self._client = None  # an answer may go on over its own connections
            await client.close()
