"""Clients of the key-value store: one request at a time, asked again of other peers until answered.

What they saw is recorded for the linearizability checker, in simulated microseconds.
"""

from typing import TYPE_CHECKING, Any

from p2p.wire.envelope import Envelope, Malformed, decode, encode
from tools.linearizability import Operation, Verb
from tools.sim.parameters import MS, SECOND

if TYPE_CHECKING:
    from tools.sim.world import World

CLUSTER = "c0ffee"
NO_QUORUM = 5  # exit code: ask again
GIVE_UP = 12 * SECOND
ASK_AGAIN = SECOND
WIRE_VERBS: dict[Verb, str] = {
    "put": "put",
    "get": "get",
    "delete": "delete",
    "cas": "compare_and_set",
}


class Client:
    """`on_done` is called with the answer, or None when it was given up."""

    def __init__(self, world: "World", name: str, history: list[Operation]) -> None:
        self.world = world
        self.name = name
        self.rng = world.stream(name)
        self.active = True
        self.history = history
        self._session: str | None = None
        self._serial = 0
        self._requests = 0
        self._values = 0
        self._known: dict[str, Any] = {}  # what it last saw at each key
        self._asking: _Asking | None = None
        self._wait()

    # -- what it wants -----------------------------------------------------------------------------

    def _wait(self) -> None:
        mean = self.world.parameters.think
        self.world.after(int(self.rng.expovariate(1 / mean)), self._next)

    def _next(self) -> None:
        if not self.active:
            return
        if self._session is None:
            self._ask("session", {}, False, self._opened)
            return
        key = f"k{self.rng.randrange(self.world.parameters.keys)}"
        verb: Verb = self.rng.choice(("put", "put", "get", "get", "cas", "delete"))
        self._values += 1
        value = f"{self.name}/{self._values}".encode() + bytes(
            self.rng.randint(0, self.world.parameters.payload)
        )
        argument: Any = None
        args: dict[str, Any] = {"key": key}
        if verb == "put":
            argument = args["value"] = value
        elif verb == "cas":
            args["expected"], args["value"] = argument = (self._known.get(key), value)
        self._perform(key, verb, argument, args)

    def _perform(self, key: str, verb: Verb, argument: Any, args: dict[str, Any]) -> None:
        begun = self.world.now

        def done(answer: dict[str, Any] | None) -> None:
            result, returned = None, None
            if answer is not None and "error" not in answer:
                returned = self.world.now
                result = _result(verb, answer["ok"])
                self._known[key] = _after(verb, argument, result, self._known.get(key))
                self.world.counts["client operations"] += 1
            elif answer is not None and answer.get("kind") != "SessionExpired":
                self.world.counts["client operations refused"] += 1
                self.world.note(self.name, f"{verb} {key} refused: {answer['error']}")
                self._wait()
                return
            else:
                self.world.counts["client operations unknown"] += 1
                self._session = self._session if answer is None else None
            self.history.append(Operation(self.name, key, verb, argument, result, begun, returned))
            self.world.note(self.name, f"{verb} {key} {argument!r} -> {result!r} {returned}")
            self._wait()

        self._ask(WIRE_VERBS[verb], args, verb != "get", done)

    def _opened(self, answer: dict[str, Any] | None) -> None:
        if answer is not None and "ok" in answer:
            self._session, self._serial = answer["ok"]["session"], 0
        self._wait()

    @property
    def is_waiting(self) -> bool:
        return self._asking is not None and not self._asking.over

    # -- asking ------------------------------------------------------------------------------------

    def _ask(self, verb: str, args: dict[str, Any], once: bool, done: Any) -> None:
        self._requests += 1
        body: dict[str, Any] = {"id": f"{self.name}-{self._requests}", "verb": verb, "args": args}
        if once:
            self._serial += 1
            body["session"] = [self._session, self._serial, self._serial]
        self._asking = _Asking(self, body, done)
        self._asking.ask()

    def on_reply(self, data: bytes) -> None:
        if self._asking is not None:
            self._asking.on_reply(data)


class _Asking:
    """One request until its answer, or until it is given up."""

    def __init__(self, client: Client, body: dict[str, Any], done: Any) -> None:
        self.client = client
        self.body = body
        self.done = done
        self.over = False
        self._data = encode(Envelope(CLUSTER, client.name, "", "request", body))
        self._until = client.world.now + GIVE_UP
        self._turn = 0

    def ask(self) -> None:
        if self.over:
            return
        client, world = self.client, self.client.world
        if world.now >= self._until:
            self.end(None)
            return
        up = world.up()
        if up:
            host = client.rng.choice(up)
            world.network.ask(client.name, host.address, self._data, client.on_reply)
        self._again(ASK_AGAIN)

    def on_reply(self, data: bytes) -> None:
        try:
            body = decode(data, CLUSTER).body
        except Malformed:
            return
        if self.over or body.get("id") != self.body["id"]:
            return
        if body.get("exit_code") == NO_QUORUM:
            self._again(self.client.rng.randint(50 * MS, 400 * MS))
        else:
            self.end(body)

    def _again(self, delay: int) -> None:
        self._turn += 1
        turn = self._turn
        self.client.world.after(delay, lambda: self.ask() if self._turn == turn else None)

    def end(self, body: dict[str, Any] | None) -> None:
        self.over = True
        self.done(body)


def _result(verb: Verb, answer: dict[str, Any]) -> Any:
    match verb:
        case "get":
            return answer["value"]
        case "delete":
            return answer["existed"]
        case "cas":
            return answer["swapped"]
    return None


def _after(verb: Verb, argument: Any, result: Any, before: Any) -> Any:
    """What the client believes to be there now."""
    match verb:
        case "put":
            return argument
        case "get":
            return result
        case "delete":
            return None
    return argument[1] if result else before
