"""A workbench for situations: whole twins, numbered writes, cuts, crashes and a bad network."""

from random import Random

from consensus.messages import MessageType
from p2p.storage.disk_memory import MemoryDisk
from p2p.storage.snapshots import SnapshotPolicy
from p2p.wire.envelope import decode
from p2p.wire.network import Route
from tests.peer_fakes import CLUSTER
from tests.peer_twins import CLIENT, Twin, TwinCluster, grown

AGREE_S = 10.0
LOSS, DELAY, DELAY_S, TWICE = 0.1, 0.2, 0.3, 0.05


class Lab:
    """`count` twins that know each other; a write is a key with a number in the replicated store.

    `disks`: of those that are crashed. `sent`: what the peers said to each other, when counting.
    """

    def __init__(self, count: int, seed: int = 1, snapshots: SnapshotPolicy | None = None) -> None:
        self.cluster: TwinCluster = grown(count, seed, snapshots)
        self.rng = Random(seed)
        self.disks: dict[str, MemoryDisk] = {}
        self.count = 0
        self.asked: dict[str, str] = {}
        self.sent: list[tuple[str, str, int]] = []
        self._post = self.cluster.hub.post

    # -- who there is ----------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        return sorted(self.cluster.twins)

    @property
    def leader(self) -> str:
        self.cluster.until(self.cluster.has_leader, "a leader")
        return self.cluster.leader.name

    @property
    def followers(self) -> list[str]:
        return [name for name in self.names if name != self.leader]

    def leaders_by_term(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for twin in self.cluster.live():
            status = twin.peer.raft.status
            if twin.peer.raft.is_leader:
                found.setdefault(status.term, []).append(twin.name)
        return found

    def leaders(self) -> list[str]:
        return [name for names in self.leaders_by_term().values() for name in names]

    def address(self, name: str) -> str:
        return self.cluster.twins[name].network.address

    def led_with_contact(self) -> list[str]:
        """Leaders that hear a majority: one, whatever is cut off."""
        return [
            twin.name
            for twin in self.cluster.live()
            if twin.peer.raft.is_leader and twin.peer.raft.status.has_quorum_contact
        ]

    def terms(self) -> set[int]:
        return {twin.peer.raft.status.term for twin in self.cluster.live()}

    def kept_entries(self) -> int:
        """The longest log that anybody has in memory."""
        logs = [twin.peer.raft.status for twin in self.cluster.live()]
        return max(log.last_index - log.first_index + 1 for log in logs)

    def starts_over(self) -> int:
        """How many begin their log behind its beginning."""
        return sum(twin.peer.raft.status.first_index > 1 for twin in self.cluster.live())

    # -- writes ----------------------------------------------------------------------------------

    def ask(self, at: str | None = None, size: int = 1) -> str:
        """Ask for a new write and do not wait; returns its key."""
        self.count += 1
        key = f"w{self.count}"
        name = at or self.leader
        self.asked[key] = self.cluster.send(name, "put", key=key, value=key.encode() * size)
        return key

    def is_acknowledged(self, key: str) -> bool:
        return "ok" in self.cluster.replies.get(self.asked[key], {})

    def holders(self, key: str) -> int:
        """How many have applied it."""
        return sum(twin.peer.state.store.get(key) is not None for twin in self.cluster.live())

    def agree(self, on: int | None = None, within_s: float = AGREE_S) -> str:
        """One more write, asked again until it is acknowledged and `on` (all) twins have it."""
        on = len(self.cluster.twins) if on is None else on
        key = self.ask(self.majority_leader())
        asked_s = self.cluster.clock.now_s

        def is_done() -> bool:
            nonlocal asked_s
            if not self.is_acknowledged(key) and self.cluster.clock.now_s - asked_s > 1.0:
                asked_s = self.cluster.clock.now_s
                name = self.majority_leader()
                value = key.encode()
                self.asked[key] = self.cluster.send(name, "put", key=key, value=value)
            return self.is_acknowledged(key) and self.holders(key) >= on

        self.cluster.until(is_done, f"{key} on {on} peers", within_s)
        return key

    def majority_leader(self) -> str:
        """One that can decide now; waits for it."""
        self.cluster.until(self.led_with_contact, "a leader that hears a majority")
        return self.led_with_contact()[-1]

    def nobody_agrees(self, key: str, seconds: float = 2.0) -> None:
        self.cluster.run(seconds)
        assert not self.is_acknowledged(key)
        assert self.holders(key) == 0

    def all_have(self, *keys: str) -> None:
        for key in keys:
            assert self.holders(key) == len(self.cluster.twins), key

    def agree_on_bytes(self, size: int) -> None:
        key = self.ask(size=size // len(f"w{self.count + 1}"))
        self.cluster.until(lambda: self.holders(key) == len(self.cluster.twins), key)

    def agree_in_all(self, keys: list[str]) -> None:
        """Each write is on all or on none; on all if it was acknowledged."""
        self.cluster.until(self.cluster.agreed, "agreement")
        for key in keys:
            wanted = (len(self.names),) if self.is_acknowledged(key) else (0, len(self.names))
            assert self.holders(key) in wanted, key

    # -- what goes wrong -------------------------------------------------------------------------

    def cut(self, *names: str) -> None:
        """Each of them alone: nobody hears it, it hears nobody, no connection breaks."""
        for name in names:
            self.cluster.isolate(name)

    def heal(self) -> None:
        self.cluster.heal()

    def crash(self, *names: str) -> None:
        """The power goes: what was not synced is gone or torn."""
        for name in names:
            disk = self.cluster.kill(name)
            disk.power_cut(self.rng)
            self.disks[name] = disk

    def restart(self, *names: str) -> None:
        """Back with its disk; it asks to be let in, as the real host does, until it is known."""
        for name in names or sorted(self.disks):
            twin = self.cluster.start(name, self.disks.pop(name))
            if twin.peer.is_sole_voter:
                twin.peer.raft.node.campaign()
                twin.peer.advance()
            self._ask_to_join(twin)

    def _ask_to_join(self, twin: Twin) -> None:
        if not twin.alive or twin.peer.is_known:
            return
        via = self.rng.choice(self.names)
        self.cluster.send(via, "join", member=dict(twin.peer.identity.member))
        self.cluster.clock.call_later(0.3, lambda: self._ask_to_join(twin))

    def unreliable(self) -> None:
        """From now on messages between peers get lost, come twice, late and out of order."""
        self._replace_post(self._badly_posted)

    def reliable(self) -> None:
        self._replace_post(self._post)

    def counting(self) -> None:
        """From now on what peers say to each other about the log is noted in `sent`."""
        self._replace_post(self._counted)

    def _replace_post(self, post: object) -> None:
        self.cluster.hub.post = post  # type: ignore[method-assign,assignment]

    def _badly_posted(self, sender: str, to: str, data: bytes, route: Route | None) -> bool:
        if CLIENT in (sender, to):
            return self._post(sender, to, data, route)
        if self.rng.random() < LOSS:
            return True
        for _ in range(1 + (self.rng.random() < TWICE)):
            late_s = self.rng.uniform(0.0, DELAY_S) if self.rng.random() < DELAY else 0.0
            self.cluster.clock.call_later(late_s, lambda: self._post(sender, to, data, route))
        return True

    def _counted(self, sender: str, to: str, data: bytes, route: Route | None) -> bool:
        if CLIENT not in (sender, to):
            envelope = decode(data, CLUSTER)
            if envelope.kind == "raft":
                for fields in envelope.body["messages"]:
                    self.sent.append((to, str(MessageType(fields[0])), len(data)))
            else:
                self.sent.append((to, envelope.kind, len(data)))
        return self._post(sender, to, data, route)
