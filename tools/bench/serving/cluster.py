"""Three real peers of which two have slots, what they serve, and a lean client of any of them."""

import contextlib
import itertools
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
import zmq

from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster, LocalPeer
from p2p.wire.client_link import bodies_of
from p2p.wire.envelope import Envelope, decode, encode
from p2p.wire.sockets import dealer
from tools.bench.serving.replica import PROMPT, Size

WITHIN_S = 60.0
ASK_AGAIN_S = 0.02
READ_EVERY_S = 2.0  # a client not heard of for long has vanished

Told = dict[str, Any]


class Serving:
    """`front` has no slots, `hosts` have two each. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names = itertools.count(1)

    def __enter__(self) -> Self:
        self.cluster = LocalCluster(())
        try:
            self.front = self.cluster.start("--slots", "0")
            self.hosts = self.cluster.start_many(2, "--slots", "2")
            self.wait("status", is_settled)
        except BaseException:
            self.cluster.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.cluster.close()

    def door(self, peer: LocalPeer | None = None) -> "Door":
        return Door(self.cluster, peer or self.front)

    def wait(self, verb: str, is_so: Callable[[Told], bool]) -> Told:
        """The first answer of the front that is so. Raises P2PError."""
        deadline_s = time.monotonic() + WITHIN_S
        with self.door() as door:
            while time.monotonic() < deadline_s:
                told = door.ask(verb)
                if is_so(told):
                    return told
                time.sleep(ASK_AGAIN_S)
        raise P2PError(f"{verb} did not become what it should within {WITHIN_S:g} s: {told}")

    @contextlib.contextmanager
    def served(self, size: Size, count: int = 1, at: LocalPeer | None = None) -> Iterator[str]:
        """Its id, once all of its replicas answer; it is let go afterwards."""
        with self.door(at) as door:
            found = scanned(door, size.saved(self.folder))
            id_ = str(door.ask("serve", **self.order(size, count), **found)["job"])
        self.wait("models", lambda told: len(replicas_of(told, id_)) == count)
        try:
            yield id_
        finally:
            self.unserve(id_)

    def order(self, size: Size, count: int = 1) -> Told:
        """What `serve` is asked, but for the files."""
        job = {"task": "textgpt", "options": size.options}
        bounds = {"replicas_min": count, "replicas_max": count}
        path = size.saved(self.folder)
        return {"model": str(path), "job": job, "name": f"bench-{next(self._names)}", **bounds}

    def unserve(self, id_: str) -> None:
        """Until the processes of its replicas are gone."""
        with self.door() as door:
            gone = len(replicas_of(door.ask("models"), id_))
            left = self._replica_processes() - gone
            door.ask("unserve", model=id_)
        deadline_s = time.monotonic() + WITHIN_S
        while self._replica_processes() > left:
            if time.monotonic() > deadline_s:
                raise P2PError(f"the replicas of {id_} did not end within {WITHIN_S:g} s")
            time.sleep(ASK_AGAIN_S)

    def _replica_processes(self) -> int:
        return sum(len(replica_pids(peer)) for peer in self.hosts)


@dataclass(slots=True)
class Answered:
    """Many streams at a time, to their ends."""

    tokens: int = 0
    seconds: float = 0.0
    by_replica: Counter[str] = field(default_factory=Counter)  # streams


class Door:
    """One connection to one peer, with nothing around it that takes time. A context manager."""

    def __init__(self, cluster: LocalCluster, peer: LocalPeer) -> None:
        self._key = cluster.key
        self._context = zmq.Context()
        self._sock = dealer(self._context, self._key)
        self._sock.immediate = False
        self._sock.rcvtimeo = int(1e3 * WITHIN_S)
        self._sock.connect(f"tcp://{peer.address}")
        self._name = uuid.uuid4().hex
        self._sent = 0
        self._heard: deque[Told] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._sock.close(0)
        self._context.term()

    def ask(self, verb: str, /, **args: Any) -> Told:
        """Raises P2PError when the answer is one, or does not come."""
        id_ = self._say(verb, args)
        return dict(self._hear({id_})["ok"])

    def first_token_s(self, service: str) -> float:
        """From the prompt until the first part of the answer that has a token."""
        began_s, taken_s = time.perf_counter(), 0.0
        stream, _ = self._prompt(service, 1)
        while "ok" not in (body := self._hear({stream})):
            if body["part"]["kind"] == "tokens":
                taken_s = time.perf_counter() - began_s
        return taken_s

    def answered(self, service: str, streams: int, count: int) -> Answered:
        """So many prompts at the same time, each with an answer of `count` tokens."""
        found, began_s = Answered(), time.monotonic()
        asked = dict(self._prompt(service, count) for _ in range(streams))
        read_s = began_s
        while asked:
            body = self._hear(asked)
            part = body.get("part")
            if part is None:
                found.by_replica[body["ok"]["replica"]] += 1
                if body["ok"]["usage"]["completion_tokens"] != count:
                    raise P2PError(f"an answer ended early: {body['ok']}")
                del asked[body["id"]]
            elif part["kind"] == "tokens":
                found.tokens += len(part["ids"])
            if (now_s := time.monotonic()) - read_s >= READ_EVERY_S:
                read_s = now_s
                for stream, request in asked.items():
                    read = {"request": request, "stream": stream, "read": count}
                    self._say("generate_read", read)
        found.seconds = time.monotonic() - began_s
        return found

    def _prompt(self, service: str, count: int) -> tuple[str, str]:
        """Its stream and its request. Each prompt begins with another byte: what was computed for
        one is not another's."""
        request = f"{self._name}-p{self._sent}"
        tokens = (self._sent % 256, *PROMPT[1:])
        args = {"service": service, "request": request, "tokens": tokens, "max_tokens": count}
        return self._say("generate", args), request

    def _say(self, verb: str, args: Told) -> str:
        self._sent += 1
        id_ = f"{self._name}-{self._sent}"
        body = {"id": id_, "verb": verb, "args": args}
        self._sock.send(encode(Envelope(self._key.cluster_id, "bench", "", "request", body)))
        return id_

    def _hear(self, wanted: Container[str]) -> Told:
        """The next of these; what is said of a stream after its end is no news. Raises P2PError."""
        while True:
            while self._heard:
                body = self._heard.popleft()
                if body["id"] not in wanted:
                    continue
                if "error" in body:
                    raise P2PError(str(body["error"]))
                return body
            try:
                told = decode(self._sock.recv(), self._key.cluster_id).body
            except zmq.Again as error:
                raise P2PError(f"no answer within {WITHIN_S:g} s") from error
            self._heard.extend(bodies_of(told))


def scanned(door: Door, path: Path) -> Told:
    """Which files they are, as the peer that is asked has hashed them."""
    while True:
        told = door.ask("model_scan", where=str(path))
        if told["found"] is not None:
            return {"found": told["found"], "peer": told["peer"]}
        time.sleep(ASK_AGAIN_S)


def is_settled(status: Told) -> bool:
    """All three live and vote, and one leads."""
    alive = [peer for peer in status["peers"] if peer["state"] == "alive"]
    votes = [peer for peer in alive if peer["role"] in ("voter", "leader")]
    return len(alive) == len(votes) == 3 and bool(status["cluster"]["leader"])


def replicas_of(models: Told, id_: str) -> list[Told]:
    return next((told["replicas"] for told in models["models"] if told["id"] == id_), [])


def replica_pids(peer: LocalPeer) -> list[int]:
    """The children of its spare; [] for a peer that is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        spares = psutil.Process(peer.process.pid).children()
        return [child.pid for spare in spares for child in spare.children()]
    return []
