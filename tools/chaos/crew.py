"""The peers' processes: started, killed, stopped and continued, without waiting for any of them."""

import asyncio
import contextlib
import json
import select
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from p2p.client import Client
from p2p.errors import P2PError
from p2p.local_cluster import LocalCluster, LocalPeer
from p2p.processes import open_peer
from tools.chaos.diary import Diary

ARGUMENTS = ("--slots", "0", "--allow-faults")
ASK_TIMEOUT_S = 3.0
REMOVED = "removed"

Life = Literal["up", "down", "paused", "leaving", "gone"]


@dataclass
class Member:
    """One peer through all its processes. `told` is empty until it announced itself once.

    `is_in`: the process that runs now has announced itself (perhaps under another id than before).
    down: killed, to be started again; leaving: asked to end by itself; gone: for good.
    """

    folder: Path
    peer: LocalPeer
    life: Life = "up"
    may_be_removed: bool = False
    is_in: bool = True
    ends: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def is_known(self) -> bool:
        return "address" in self.peer.told

    def last_words(self) -> str:
        said = self.peer.log.read_text(errors="replace").strip().splitlines()
        return said[-1] if said else "it said nothing"


class Crew:
    """`problems`: what must not happen to a process; a run with any has failed."""

    def __init__(self, cluster: LocalCluster, arguments: tuple[str, ...] = ARGUMENTS) -> None:
        """`arguments`: of every peer that it starts."""
        self.cluster = cluster
        self._arguments = arguments
        self.members = [Member(Path(peer.told["data_dir"]), peer) for peer in cluster.peers]
        self.problems: list[str] = []
        self.diary = Diary()

    def of(self, *lives: Life) -> list[Member]:
        return [member for member in self.members if member.life in lives]

    @property
    def addresses(self) -> list[str]:
        return [m.peer.address for m in self.members if m.is_known and m.life != "gone"]

    def running(self) -> dict[str, str]:
        """Names and addresses of those that could answer."""
        return {m.name: m.peer.address for m in self.of("up", "leaving") if m.is_known}

    def names(self) -> dict[str, str]:
        """By peer id."""
        return {m.peer.id: m.name for m in self.members if m.is_known}

    # -- what happens to one ---------------------------------------------------------------------

    def kill(self, member: Member) -> None:
        member.peer.kill()
        member.life = "down"

    def kill_all(self) -> None:
        for member in self.of("up", "paused", "leaving"):
            self.kill(member)

    def pause(self, member: Member) -> None:
        member.peer.process.send_signal(signal.SIGSTOP)
        member.life = "paused"

    def resume(self, member: Member) -> None:
        if member.life == "paused":
            member.peer.process.send_signal(signal.SIGCONT)
            member.life = "up"
            self.diary.note(f"{member.name} runs on")

    def drain(self, member: Member) -> None:
        member.peer.process.send_signal(signal.SIGTERM)
        member.life = "leaving"

    def start(self, member: Member) -> None:
        """Again, with its data directory."""
        if member.life == "down":
            stdout = member.peer.process.stdout
            if stdout is not None:
                stdout.close()
            member.peer.process = self._open(member.folder, ())
            member.life, member.is_in = "up", False
            self.diary.note(f"{member.name} is started again")

    def add(self) -> Member:
        folder = self.cluster.folder / f"peer-{len(self.members) + 1}"
        token_file = str(self.members[0].peer.told["token_file"])
        join = ("--join", ",".join(self.addresses), "--token-file", token_file)
        process = self._open(folder, (*join, "--listen", "127.0.0.1:0"))
        peer = LocalPeer(process, {}, self._log(folder))
        self.cluster.peers.append(peer)  # so that it ends with the cluster
        self.members.append(Member(folder, peer, is_in=False))
        return self.members[-1]

    def rot(self, member: Member, place: float) -> None:
        """Kill it and flip a bit in the older half of its log, which was certainly durable."""
        self.kill(member)
        log = max(member.folder.glob("wal-*"))
        data = bytearray(log.read_bytes())
        data[int(place * len(data) / 2)] ^= 1
        log.write_bytes(data)

    def wipe(self, member: Member) -> None:
        """Kill it and remove all it had: it never comes back, a new peer does."""
        self.kill(member)
        shutil.rmtree(member.folder)
        member.life = "gone"
        self.add()

    def _open(self, folder: Path, arguments: tuple[str, ...]) -> Any:
        given = ["--json", "--data-dir", str(folder), *self._arguments, *arguments]
        return open_peer(given, self._log(folder), self.cluster.environment)

    def _log(self, folder: Path) -> Path:
        return self.cluster.folder / f"{folder.name}.log"

    # -- what is to be noticed -------------------------------------------------------------------

    def watch(self) -> None:
        """Take in announcements and ends; call it often."""
        for member in self.of("up", "paused", "leaving"):
            if not member.is_in:
                self._hear(member)
            code = member.peer.process.poll()
            if code is not None:
                self._ended(member, code)

    def _hear(self, member: Member) -> None:
        stdout = member.peer.process.stdout
        assert stdout is not None
        if select.select([stdout], [], [], 0.0)[0]:
            line = stdout.readline()
            if line:
                member.peer.told.update(json.loads(line))
                member.is_in = True
                self.diary.note(f"{member.name} is in, as {member.peer.id}")

    def _ended(self, member: Member, code: int) -> None:
        words = member.last_words()
        member.ends.append(f"{code}: {words}")
        self.diary.note(f"{member.name} ended with {code}: {words}")
        if member.may_be_removed and REMOVED in words:
            member.life = "gone"
        elif member.life == "leaving" and code in (0, -signal.SIGTERM):  # asked while it started
            member.life = "down"
        elif not member.is_known:  # it never was a member: its join found no quorum, say
            member.life = "gone"
        else:
            member.life = "gone"
            self.problems.append(f"{member.name} ended by itself with {code}: {words}")

    # -- asking ----------------------------------------------------------------------------------

    def ask(self, verb: str, /, at: Member | None = None, **args: Any) -> dict[str, Any] | None:
        """An answer, or None when there is none now. `at`: of this peer and no other."""
        addresses = (
            [at.peer.address] if at else [m.peer.address for m in self.of("up") if m.is_known]
        )
        if not addresses:
            return None
        with contextlib.suppress(P2PError):
            return asyncio.run(self._ask(addresses, verb, args))
        return None

    def client(self) -> Client:
        """Of all peers that run; to be used in a running event loop."""
        addresses = [m.peer.address for m in self.of("up") if m.is_known]
        return Client(addresses, self.cluster.key, timeout_s=30.0)

    async def _ask(self, addresses: list[str], verb: str, args: dict[str, Any]) -> dict[str, Any]:
        client = Client(addresses, self.cluster.key, ASK_TIMEOUT_S)
        try:
            return await client.request(verb, **args)
        finally:
            await client.close()

    def until(self, is_so: Any, what: str, within_s: float) -> bool:
        """Waits; on time-out that is a problem. `is_so` is asked a few times a second."""
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            self.watch()
            if is_so():
                return True
            time.sleep(0.1)
        self.problems.append(f"not within {within_s:g} s: {what}")
        return False


def agreement(crew: Crew) -> list[int]:
    """[the index] that all have committed and applied; [] when they do not agree."""
    told = [crew.ask("status", at=member) for member in crew.of("up")]
    views = [status["cluster"] for status in told if status is not None]
    if len(views) < len(told) or not views:
        return []
    alive = {p["id"] for s in told if s for p in s["peers"] if p["state"] == "alive"}
    facts = {(v["leader"], v["term"], v["commit_index"], v["applied_index"]) for v in views}
    leader, _, commit, applied = next(iter(facts))
    is_one = len(facts) == 1 and leader is not None and commit == applied
    return [applied] if is_one and alive == {m.peer.id for m in crew.of("up")} else []
