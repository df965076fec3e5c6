"""The peer as a process: finds or founds its cluster, runs the loop, drains on SIGTERM."""

import asyncio
import os
import random
import resource
import signal
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import psutil

from consensus.errors import RaftError
from p2p import runtime_dir
from p2p.checkpoints.shelf import FolderShelf
from p2p.client import Client, key_for
from p2p.clock import SystemClock
from p2p.content.folder import ContentFolder
from p2p.content.thread import ContentThread
from p2p.devices import gpus
from p2p.door.keeper import Door, given_token
from p2p.errors import P2PError
from p2p.measure.prometheus import Endpoint
from p2p.measure.system import HostSystem
from p2p.membership import JOIN_TIMEOUT_S, Membership
from p2p.parts import Identity, Parts
from p2p.peer import Peer
from p2p.processes import (
    ChildListener,
    TrainerProcesses,
    continue_later,
    end_self,
    start_peer,
)
from p2p.raft_host import TICK_S
from p2p.replicas.folders import gather
from p2p.storage import data_dir
from p2p.storage.disk import Folder
from p2p.storage.log_store import LogStore
from p2p.storage.rejoin import Opened, corrupt_log, open_log
from p2p.terminal import Terminal
from p2p.trainer_desk import Workplace, keys_for_trainers
from p2p.version import VERSION
from p2p.watch.notify import ThreadNotify
from p2p.watch.rule import Rule
from p2p.watch.rules import BUILT_IN
from p2p.wire.addresses import parse_address
from p2p.wire.keys import ClusterKey
from p2p.wire.network import Listener
from p2p.wire.sockets import ZmqNetwork, address_towards
from p2p.workers import WorkerProcesses

OPEN_FILES = 8_192
MEASURE_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line and the settings say."""

    name: str | None = None
    listen: str | None = None
    advertise: str | None = None
    data_dir: str | None = None
    slots: int | None = None  # None = one, or one per GPU
    device: str = "auto"
    allow_faults: bool = False
    files_gb: int = 256
    measure: bool = True
    metrics_port: str | None = None  # [HOST:]PORT for Prometheus
    http: str | None = None  # [HOST:]PORT for OpenAI's clients
    http_token_file: str | None = None
    rules: tuple[Rule, ...] = BUILT_IN
    notify_command: str | None = None
    notify_url: str | None = None
    join: tuple[str, ...] = ()
    key: ClusterKey | None = None  # from --token-file or $P2P_TOKEN
    cluster_name: str | None = None


def run(options: Options, announce: Callable[[dict[str, Any]], None]) -> int:
    """Run a peer until it is told to stop; returns its exit code.

    `announce` is given what the user needs to know once the peer is up. Raises P2PError when it
    cannot start.
    """
    found = gpus.find(options.device, folder=runtime_dir.base_dir)
    metrics = Endpoint(options.metrics_port) if options.metrics_port else None
    door = Door(options.http, given_token(options.http_token_file)) if options.http else None
    key = key_for(options.join, options.key) if options.join else None
    folder = data_dir.open_data_dir(options.data_dir, key.cluster_id if key else None)
    try:
        if key is not None and data_dir.recall(folder) is None:
            asyncio.run(_knock(options, key))
        host = _Host(options, folder, key, found, metrics, door)
        return asyncio.run(host.serve(announce))
    finally:
        data_dir.discard_if_unused(folder)
        folder.close()
        found.close()
        if metrics is not None:
            metrics.close()
        if door is not None:
            door.close()


async def _knock(options: Options, key: ClusterKey) -> None:
    """Before anything is written: is there a peer that takes our key? Raises P2PError."""
    client = Client(options.join, key, timeout_s=JOIN_TIMEOUT_S)
    try:
        await client.request("status")
    finally:
        await client.close()


class _Host:
    def __init__(
        self,
        options: Options,
        folder: Folder,
        key: ClusterKey | None,
        found: gpus.Gpus,
        metrics: Endpoint | None,
        door: Door | None,
    ) -> None:
        self.options, self.gpus, self.metrics, self.door = options, found, metrics, door
        default = max(1, len(found.offered))
        self.slots = default if options.slots is None else options.slots
        self.folder = folder
        known = data_dir.recall(folder)
        self.founds = key is None if known is None else known.founding
        self.key = data_dir.load_key(folder) if known else key or ClusterKey.fresh()
        self.network = ZmqNetwork(self.key, *where(options, known, self._listen_for_join()))
        address = self.network.address
        name = options.name or (known.name if known else _default_name(address))
        data_dir.make_subfolders(folder)
        fresh_id = uuid.uuid4().hex[:12]
        if known is None:
            data_dir.save_key(folder, self.key)
            # Whom it asked to get in: it may end before the log names anybody.
            self.who = data_dir.Remembered(
                *(fresh_id, name, address, self.key.cluster_id),
                others=options.join,
                founding=self.founds,
            )
        else:
            self.who = replace(known, name=name, address=address)
        bound = self.network.bound
        self.who = replace(self.who, listen="" if bound == address else bound)
        data_dir.remember(folder, self.who)
        if known is None and not self.founds:
            self.opened = Opened(LogStore(folder), self.who)
        else:
            self.opened = open_log(folder, self.who, fresh_id, time.time(), bool(options.join))
            self.who = self.opened.who
        self.runtime = runtime_dir.announce(
            self.who.id, address, self.key.cluster_id, data_dir.token_path(folder)
        )
        content = ContentFolder(folder.path / "content", options.files_gb * 10**9)
        self.workers = WorkerProcesses(folder.path / "logs" / "workers.log")
        self.content = ContentThread(content, self.key, self.network.bind_host, self.who.id)
        self.failure: BaseException | None = None
        self.stop = asyncio.Event()
        self.terminal = Terminal()
        self.notify = ThreadNotify(options.notify_command, options.notify_url, self.terminal.say)
        self.events_shown = 0
        self._process = psutil.Process()
        self._measured = (0.0, (self._process.memory_info().rss, 0.0))

    def _listen_for_join(self) -> str | None:
        """Joining another host: listen on the address that reaches it; else on 127.0.0.1."""
        if not self.options.join:
            return None
        local = address_towards(self.options.join[0])
        return None if local.startswith("127.") else local

    async def serve(self, announce: Callable[[dict[str, Any]], None]) -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_failure)
        children = TrainerProcesses(
            self.folder.path / "logs",
            self.runtime / "torch",
            ChildListener(
                on_warm=lambda: self.peer.advance(),
                on_message=lambda child, message: self.peer.on_trainer(child, message),
                on_exit=lambda child, how: self.peer.on_trainer_exit(child, how),
                on_status=lambda child, how: self.peer.on_trainer_status(child, how),
            ),
        )
        try:
            if self.opened.note:
                self.terminal.say(self.opened.note)
            self.peer = self._make_peer(children)
            if self.metrics is not None:
                self.metrics.newest = lambda: self.peer.measures.newest
            self.membership = Membership(
                self.peer, self.who, self.folder, self.key, self.options.join, self.stop
            )
            self.content.start()
            self.network.start(Listener(self.peer.on_message, self.peer.on_link))
            self.peer.advance()  # applies what the log held before
            self.events_shown = self._last_event()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays in force
                    loop.add_signal_handler(number, self._on_signal, number)
            ticking = asyncio.ensure_future(self._tick_for_ever())
            ticking.add_done_callback(self._on_task_ended)
            default_name = f"cluster-{self.key.cluster_id[:4]}"
            await self.membership.enter(self.options.cluster_name or default_name)
            if self.slots:
                children.start_spare()
            if self.door is not None:
                log = self.folder.path / "logs" / "door.log"
                self.door.start([self.who.address], self.key, log, self.terminal.say)
            announce(self._announcement())
            asking = asyncio.ensure_future(self.membership.ask_while_lost())
            asking.add_done_callback(self._on_task_ended)
            await self.stop.wait()
            asking.cancel()
            if self.failure is None:
                await asyncio.gather(self.membership.leave(), self._leave_door())
            ticking.cancel()
        finally:
            if self.door is not None:
                self.door.close()
            children.close()
            self.workers.close()
            self.content.close()
            self.network.close()
            runtime_dir.withdraw(self.runtime)
            self.terminal.close()
        if self.failure is not None:
            raise self.failure
        return 0

    async def _leave_door(self) -> None:
        if self.door is not None:
            await self.door.leave()

    def _make_peer(self, children: TrainerProcesses) -> Peer:
        _allow_open_files()
        reached_at, _ = parse_address(self.network.address)
        member = {
            "id": self.who.id,
            "name": self.who.name,
            "address": self.who.address,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slots": self.slots,
            "version": VERSION,
            "incarnation": uuid.uuid4().hex[:12],
        }
        workplace = Workplace(
            self_id=self.who.id,
            bind_host=self.network.bind_host,
            ipc_dir=str(self.runtime),
            keys=keys_for_trainers(self.key),
            checkpoint_dir=str(self.folder.path / "checkpoints"),
            source_dir=str(self.folder.path / "sources"),
            advertise_host=reached_at,
            gpus=self.gpus.offered,
        )
        identity = Identity(
            self.who.id,
            self.key.cluster_id,
            str(member["incarnation"]),
            member,
            self.options.allow_faults,
        )
        parts = Parts(
            store=self.opened.store,
            network=self.network,
            children=children,
            clock=SystemClock(),
            rng=random.Random(),
            workplace=workplace,
            call_later=_call_later,
            measure=self._measure,
            gpus=self.gpus,
            start_peers=self._start_peers,
            fault=self._fault,
            new_id=lambda: uuid.uuid4().hex[:12],
            content=self.content,
            shelf=FolderShelf(self.folder.path / "checkpoints"),
            workers=self.workers,
            data_dir=str(self.folder.path),
            free_bytes=lambda: int(psutil.virtual_memory().available),
            gather=gather,
            rules=self.options.rules,
            notify=self.notify,
            system=HostSystem(str(self.folder.path)) if self.options.measure else None,
        )
        return Peer(identity, parts)

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.peer.on_tick()
            self._tell_events()
            self.membership.on_tick()
            if self.peer.is_removed and not (self.membership.votes_on or self.stop.is_set()):
                self.terminal.say("this peer was removed from the cluster and stops")
                self.stop.set()

    def _on_task_ended(self, task: "asyncio.Task[None]") -> None:
        """A full disk, say, is noticed within a tick: without ticks the peer must not stay."""
        if not task.cancelled() and task.exception() is not None:
            self._on_failure(asyncio.get_running_loop(), {"exception": task.exception()})

    def _on_signal(self, number: int) -> None:
        if self.stop.is_set():  # the second time: at once
            os._exit(128 + number)
        self.stop.set()

    def _on_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.failure is None:
            if isinstance(error, RaftError):
                error = P2PError(f"the peer stops to protect the cluster: {error}")
            self.failure = error or P2PError(str(context.get("message")))
        self.stop.set()

    def _announcement(self) -> dict[str, Any]:
        token_file = data_dir.token_path(self.folder)
        return {
            "schema": 1,
            "id": self.who.id,
            "name": self.who.name,
            "address": self.who.address,
            "pid": os.getpid(),
            "cluster": {"id": self.key.cluster_id, "name": self.peer.state.name},
            "founded": self.founds,
            "data_dir": str(self.folder.path),
            "token_file": str(token_file),
            "join": f"p2pnode --join {self.who.address} --token-file {token_file}",
            **({"metrics": self.metrics.url} if self.metrics is not None else {}),
            **({"http": self.door.url} if self.door is not None else {}),
        }

    def _start_peers(self, count: int) -> list[int]:
        home = self.folder.path / "added"
        taken = len(list(home.glob("*.log"))) if home.is_dir() else 0
        return [self._start_one(home, taken + number) for number in range(1, count + 1)]

    def _start_one(self, home: Path, number: int) -> int:
        arguments = ["--join", self.who.address]
        arguments += ["--token-file", str(data_dir.token_path(self.folder))]
        arguments += ["--slots", str(max(self.slots, 1)), "--device", self.options.device]
        arguments += ["--allow-faults"] if self.options.allow_faults else []
        arguments += ["--metrics-port", "0"] if self.metrics is not None else []  # any free one
        arguments += ["--http", ""]  # a door is where it was asked for, whatever the settings say
        if not data_dir.is_default(self.folder):
            # Among the user's own folders it takes the next free one, and plain `p2pnode` finds it.
            arguments += ["--data-dir", str(home / str(number))]
        return start_peer(arguments, home / f"{number}.log")

    def _fault(self, kind: str, for_s: float | None) -> None:
        if kind == "kill":
            end_self(signal.SIGKILL)
        elif kind == "pause":
            continue_later(float(for_s or 5.0))
            end_self(signal.SIGSTOP)
        elif kind == "corrupt":
            corrupt_log(self.folder)

    def _measure(self) -> tuple[int, float]:
        at_s, values = self._measured
        now_s = time.monotonic()
        if now_s - at_s >= MEASURE_EVERY_S:
            values = (self._process.memory_info().rss, self._process.cpu_percent())
            self._measured = (now_s, values)
        return values

    def _last_event(self) -> int:
        events = self.peer.state.events
        return events[-1].index if events else 0

    def _tell_events(self) -> None:
        """What happens in the cluster, as lines for whoever watches this terminal."""
        shown = self.events_shown
        new = list(takewhile(lambda event: event.index > shown, reversed(self.peer.state.events)))
        for event in reversed(new):
            at = time.strftime("%H:%M:%S", time.localtime(event.at_s))
            self.terminal.say(f"{at} {event.severity:<7} {event.text}")
        self.events_shown = self._last_event()


def where(
    options: Options, known: data_dir.Remembered | None, for_join: str | None
) -> tuple[str | None, str | None]:
    """Where to listen, and where others reach it if that is elsewhere: as given, or as it was."""
    if options.listen or known is None:
        return options.listen or for_join, options.advertise
    elsewhere = known.address if known.listen else None
    return known.listen or known.address, options.advertise or elsewhere


def _call_later(delay_s: float, callback: Callable[[], None]) -> None:
    """At once is the loop's own queue: half the price of a timer."""
    loop = asyncio.get_running_loop()
    if delay_s:
        loop.call_later(delay_s, callback)
    else:
        loop.call_soon(callback)


def _default_name(address: str) -> str:
    return f"{socket.gethostname().split('.')[0]}-{parse_address(address)[1]}"


def _allow_open_files() -> None:
    """Fifty peers mean a few hundred descriptors; the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
