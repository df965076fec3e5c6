"""The public client: ask any peer, over the same sockets for the CLI, the TUI and programs.

    client = Client(["127.0.0.1:7700"], key)
    status = await client.request("status")
    await client.put("colour", b"green")

A request is tried on every known peer in turn until one answers; what a peer cannot decide now
(no leader yet, too busy) is tried again until the time is up. What changes something is asked in a
session, which is opened by the first such request: the cluster does it once, however often and
whomever it is asked. Where an answer does not come, the error says that the outcome is unknown.
"""

import asyncio
import contextlib
import itertools
import random
import socket
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import zmq

from p2p.errors import (
    Busy,
    NoQuorum,
    OutcomeUnknown,
    P2PError,
    Refused,
    SessionExpired,
    Unreachable,
    from_wire,
)
from p2p.once import ONCE, UNGUARDED
from p2p.runtime_dir import find_key, running_peers
from p2p.wire.addresses import parse_address
from p2p.wire.client_link import CONNECT_TIMEOUT_S, ClientLink, NoAnswer, WrongKey
from p2p.wire.keys import ClusterKey

if TYPE_CHECKING:
    from p2p.generation import Generation

PAUSE_MIN_S = 0.01
PAUSE_MAX_S = 0.1
IN_FLIGHT_MAX = 256
KNOWN_MAX = 64

__all__ = ["Client", "discover"]


def discover() -> tuple[list[str], ClusterKey | None]:
    """Addresses of this user's running peers on this host (one cluster), and its key."""
    peers = running_peers()
    if not peers:
        return [], None
    first = peers[0]
    return [peer.address for peer in peers if peer.cluster == first.cluster], first.key


def key_for(addresses: Sequence[str], token_key: ClusterKey | None) -> ClusterKey:
    """The key for these peers: the given one, else this user's own.

    Raises Unreachable if nothing listens there, Refused if something does and there is no key.
    """
    if token_key is not None:
        return token_key
    key = find_key(addresses)
    if key is not None:
        return key
    for address in addresses:
        with contextlib.suppress(OSError), socket.create_connection(parse_address(address), 2.0):
            raise Refused(f"no key for the peer at {address}: give --token-file, or set P2P_TOKEN")
    raise Unreachable(f"no peer answers at {', '.join(addresses)}")


class Client:
    """Requests may be made concurrently: they travel side by side, IN_FLIGHT_MAX of those that
    change something at a time.
    """

    def __init__(self, addresses: Sequence[str], key: ClusterKey, timeout_s: float = 5.0) -> None:
        self.key = key
        self.timeout_s = timeout_s
        self.id = f"client-{uuid.uuid4().hex[:8]}"
        self._known = list(dict.fromkeys(addresses))
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._links: dict[str, ClientLink] = {}
        self.address = self._known[0]  # the peer that answered last, or the one to be tried next
        self._session: _Session | None = None
        self._opening = asyncio.Lock()
        self._places = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def request(self, verb: str, /, **args: Any) -> dict[str, Any]:
        """The peer's answer.

        Raises OutcomeUnknown when what goes into the log may have been done, or be done yet;
        every other P2PError (Unreachable, Refused, NoQuorum, Usage, Busy, …) says it was not.
        """
        deadline_s = asyncio.get_running_loop().time() + self.timeout_s
        if verb not in ONCE:
            return await self._ask(_Question(verb, args), deadline_s)
        async with self._places:
            return await self._ask_once(verb, args, deadline_s)

    async def get(self, key: str, stale: bool = False) -> bytes | None:
        """The newest agreed value, None if there is none; `stale`: as the asked peer knows it."""
        value = (await self.request("get", key=key, stale=stale)).get("value")
        return value if isinstance(value, bytes) else None

    async def put(self, key: str, value: bytes) -> None:
        await self.request("put", key=key, value=value)

    async def delete(self, key: str) -> bool:
        """Whether there was one."""
        return bool((await self.request("delete", key=key)).get("existed"))

    async def compare_and_set(self, key: str, expected: bytes | None, value: bytes | None) -> bool:
        """Set `key` to `value` if it is `expected` now; None is absent. Whether that was so."""
        told = await self.request("compare_and_set", key=key, expected=expected, value=value)
        return bool(told.get("swapped"))

    def generate(
        self,
        prompt: str | Sequence[Mapping[str, str]] | Sequence[int],
        **options: Any,
    ) -> "Generation":
        """The answer of a served model, to be iterated: `async for text in …`, or `for text in …`
        where no loop runs. `prompt` is a text, its token ids, or the messages of a conversation.

        Options: model, max_tokens, temperature, top_k, top_p, seed, stop, conversation (an id: its
        prompts go to the same replica where they can), timeout_s, waits_when_busy (True; False:
        Busy is raised at once). Raises Usage.
        """
        from p2p.generation import Generation  # not needed for anything else

        if isinstance(prompt, str):
            return Generation(self, {"text": prompt}, options)
        kind = "tokens" if prompt and isinstance(prompt[0], int) else "messages"
        return Generation(self, {kind: list(prompt)}, options)

    @property
    def known(self) -> list[str]:
        return list(self._known)

    def candidates(self) -> list[str]:
        """The peer that answered last, then the others."""
        return list(dict.fromkeys([self.address, *self._known]))

    async def close(self) -> None:
        for link in list(self._links.values()):
            link.close()
        self._context.destroy(linger=0)

    # -- sessions -------------------------------------------------------------------------------

    async def _ask_once(self, verb: str, args: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        while True:
            session = await self._opened(deadline_s)
            serial = session.begin()
            question = _Question(verb, args, session, serial)
            try:
                return await self._ask(question, deadline_s)
            except SessionExpired as expired:
                if self._session is session:
                    self._session = None
                if question.is_open:
                    raise
                if asyncio.get_running_loop().time() >= deadline_s:
                    raise Busy("more clients at once than the cluster has sessions") from expired
                # Refused whenever it was asked: it was not done, and may be in another session.
            finally:
                session.end(serial)

    async def _opened(self, deadline_s: float) -> "_Session":
        async with self._opening:
            if self._session is None:
                try:
                    answer = await self._ask(_Question("session", {}), deadline_s)
                except OutcomeUnknown as unknown:  # but what is asked in it was not even said
                    raise NoQuorum(f"no session could be opened: {unknown}") from unknown
                self._session = _Session(str(answer["session"]))
            return self._session

    # -- asking ---------------------------------------------------------------------------------

    async def _ask(self, question: "_Question", deadline_s: float) -> dict[str, Any]:
        """Ask one peer after the other until one answers, or the time is up."""
        loop = asyncio.get_running_loop()
        problem: P2PError = Unreachable(f"no peer answers at {', '.join(self._known)}")
        pause_s = PAUSE_MIN_S
        while True:
            addresses, strangers = self.candidates(), 0
            for address in addresses:
                try:
                    return await self._ask_at(address, question, deadline_s)
                except SessionExpired:
                    raise
                except WrongKey as error:  # another cluster took the port of a peer that is gone
                    strangers += 1
                    problem = _more_telling(problem, error)
                except (Unreachable, NoQuorum, Busy, OutcomeUnknown) as error:
                    if isinstance(error, NoAnswer | OutcomeUnknown):
                        question.is_open = question.must_be_once
                        if question.serial is None and question.is_open:
                            raise question.given_up(error) from error
                    problem = _more_telling(problem, error)
                    if isinstance(error, Busy):
                        break  # it comes from the leader, whoever is asked
                except P2PError as refused:  # now; an earlier attempt may be on its way
                    raise question.given_up(refused) from refused
            pause_s = min(2 * pause_s, PAUSE_MAX_S) * random.uniform(0.5, 1.0)
            alone = isinstance(problem, Unreachable) and len(self._known) == 1
            # One that does not answer: said at once; several, who answered before, may come back.
            if alone or strangers == len(addresses) or loop.time() + pause_s >= deadline_s:
                raise question.given_up(problem)
            await asyncio.sleep(pause_s)

    async def _ask_at(
        self, address: str, question: "_Question", deadline_s: float
    ) -> dict[str, Any]:
        left_s = deadline_s - asyncio.get_running_loop().time()
        if len(self._known) > 1:  # one that hangs must not use up the time of the others
            left_s = min(left_s, max(self.timeout_s / 3, 1.0))
        left_s = max(left_s, 0.05)
        link = self.link(address)
        await link.shake_hands(min(left_s, CONNECT_TIMEOUT_S))
        reply = await link.ask(self.id, question.body(), left_s)
        if "error" in reply:
            raise from_wire(reply)
        self.address = address
        answer = reply.get("ok")
        return self._learn(answer) if isinstance(answer, dict) else {}

    def link(self, address: str) -> ClientLink:
        link = self._links.get(address)
        if link is None or link.is_lost:
            link = self._links[address] = ClientLink(self._context, self.key, address)
        return link

    def _learn(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Remember the peers a status names, to fail over to them. Of more than KNOWN_MAX, the
        oldest that do not live are forgotten, then the oldest, but none that is in use.
        """
        told = [
            peer["address"]
            for peer in answer.get("peers", ())
            if isinstance(peer, dict)
            and peer.get("state") == "alive"
            and isinstance(peer.get("address"), str)
        ]
        known = dict.fromkeys([*self._known, *told])
        idle = filter(self._is_idle, sorted(known, key=set(told).__contains__))
        for address in itertools.islice(idle, max(0, len(known) - KNOWN_MAX)):
            del known[address]
            if link := self._links.pop(address, None):
                link.close()
        self._known = list(known)
        return answer

    def _is_idle(self, address: str) -> bool:
        link = self._links.get(address)
        return address != self.address and (link is None or not link.is_awaited)


class _Session:
    """Numbers what this client asks for, and knows which answers it still waits for."""

    def __init__(self, id_: str) -> None:
        self.id = id_
        self._next = 0
        self._awaited: dict[int, None] = {}  # in ascending order

    def begin(self) -> int:
        serial = self._next
        self._next += 1
        self._awaited[serial] = None
        return serial

    def end(self, serial: int) -> None:
        self._awaited.pop(serial, None)

    def ticket(self, serial: int) -> list[str | int]:
        return [self.id, serial, next(iter(self._awaited))]


class _Question:
    """One request: the same id and number however often, and whoever, it is asked."""

    def __init__(
        self,
        verb: str,
        args: dict[str, Any],
        session: _Session | None = None,
        serial: int | None = None,
    ) -> None:
        self.serial = serial
        self.is_open = False  # it was sent, and nobody said what became of it
        self.must_be_once = serial is not None or verb in UNGUARDED
        self._session = session
        self._body = {"id": uuid.uuid4().hex, "verb": verb, "args": args}

    def body(self) -> dict[str, Any]:
        if self._session is None or self.serial is None:
            return self._body
        return {**self._body, "session": self._session.ticket(self.serial)}

    def given_up(self, problem: P2PError) -> P2PError:
        if not self.is_open or isinstance(problem, OutcomeUnknown):
            return problem
        return OutcomeUnknown(
            f"{problem}; whether the request was carried out is unknown", problem.exit_code
        )


def _more_telling(old: P2PError, new: P2PError) -> P2PError:
    """A peer that answered "no leader" says more than one that did not answer."""
    return new if isinstance(old, Unreachable) or not isinstance(new, Unreachable) else old
