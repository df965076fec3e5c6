"""The asynchronous parameter server as one trainer lives it: a state machine without sockets. Pure.

Stale synchronous parallel (Ho et al., "More Effective Distributed ML via a Stale Synchronous
Parallel Parameter Server", 2013), one optimizer update per global batch:

- a trainer computes its shards of step s with parameters that have at least the steps below s - S
  in them (S = the staleness bound), pushes its part to the server of each partition, and goes on;
- a server that has step v's contributions of all shards gives their sum to its backup. The backup
  updates its copy and acknowledges; only then does the server update its own and publish the new
  version. So whatever anybody has seen, two trainers keep: a backup can be promoted at any moment,
  and its version (= steps applied) says which contributions are in it;
- a contribution is known by partition, step and shards: one that came before is recognised, and
  one for a step that a partition has applied is not even sent.

A window ends at `until`, where everybody has every partition at that version: a consistent point.
The next generation after an aborted window begins with the newest version of each partition that
anybody keeps, and computes the steps from the oldest of these on, for the partitions lacking them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from p2p.training.strategies.parameter_server_map import Partition


class Kind(IntEnum):
    PUSH = 0  # trainer to server; with it: the gradient of its shards, if finite
    REPLICA = 1  # server to backup; with it: the sum over all shards, if finite
    ACK = 2  # backup to server
    PUBLISH = 3  # server to all; with it: the parameters


@dataclass(frozen=True, slots=True)
class Message:
    """`step` is the step summed; of a PUBLISH the version, which is one more."""

    kind: Kind
    partition: int
    step: int
    first: int = 0  # shards [first, last) of a PUSH
    last: int = 0
    finite: bool = True


@dataclass(frozen=True, slots=True)
class Send:
    to: int
    message: Message


@dataclass(frozen=True, slots=True)
class Add:
    """The contribution at hand belongs to the sum of this step of this partition."""

    partition: int
    step: int


@dataclass(frozen=True, slots=True)
class Apply:
    """Update this partition by this step's sum (a backup: by the sum at hand); if `finite`."""

    partition: int
    step: int
    finite: bool


@dataclass(frozen=True, slots=True)
class Adopt:
    """The parameters at hand are this partition's now."""

    partition: int


Action = Send | Add | Apply | Adopt


class Unexpected(Exception):
    """A message that no trainer of this generation sends."""


class Window:
    """`versions` = steps applied, by partition, equal on all ranks at first; `shards` by rank.

    Carry out the actions in order; messages may come between `begin` and `computed`.
    `stalenesses[d]` counts the steps that were computed with parameters that lacked the `d` steps
    before.
    """

    def __init__(
        self,
        rank: int,
        partitions: Sequence[Partition],
        versions: Sequence[int],
        shards: Sequence[tuple[int, int]],
        staleness: int,
        until: int,
    ) -> None:
        self.rank, self.partitions, self.shards = rank, list(partitions), list(shards)
        self.versions = list(versions)
        self.staleness_max, self.until = staleness, until
        self.next = min(versions, default=until)
        self.stalenesses = [0] * (staleness + 1)
        self._begun_at = tuple(versions)
        self._all = self.shards[-1][1]
        self._arrived: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        self._not_finite: set[tuple[int, int]] = set()
        self._replicating: set[int] = set()

    @property
    def may_compute(self) -> bool:
        """Whether step `next` may be computed now; if not, wait for messages."""
        return self.next < self.until and self._behind <= self.staleness_max

    @property
    def done(self) -> bool:
        return min(self.versions, default=self.until) >= self.until

    @property
    def _behind(self) -> int:
        return self.next - min(self.versions)

    def begin(self) -> int:
        """The step that this trainer computes now, with the parameters that it has."""
        assert self.may_compute
        self.stalenesses[self._behind] += 1
        return self.next

    def computed(self, finite: bool) -> list[Action]:
        """This trainer's shards of the step that it began are computed."""
        first, last = self.shards[self.rank]
        step, self.next = self.next, self.next + 1
        actions: list[Action] = []
        for number, partition in enumerate(self.partitions):
            if step < self._begun_at[number] or first == last:
                continue  # applied before this generation, or nothing to contribute
            push = Message(Kind.PUSH, number, step, first, last, finite)
            if partition.server == self.rank:
                actions += self._pushed(push)
            else:
                actions.append(Send(partition.server, push))
        return actions

    def receive(self, sender: int, message: Message) -> list[Action]:
        """Raises Unexpected."""
        number, step = message.partition, message.step
        if not 0 <= number < len(self.partitions):
            raise Unexpected(f"rank {sender} speaks of partition {number}")
        partition, rank = self.partitions[number], self.rank
        roles = (sender, rank)
        match message.kind:
            case Kind.PUSH if partition.server == rank:
                if (message.first, message.last) != self.shards[sender]:
                    raise Unexpected(f"rank {sender} has no shards {message.first}..{message.last}")
                return self._pushed(message)
            case Kind.REPLICA if roles == (partition.server, partition.backup):
                return self._replica(message)
            case Kind.ACK if roles == (partition.backup, partition.server):
                if step == self.versions[number] and number in self._replicating:
                    self._replicating.remove(number)
                    return self._apply(number)
                return []
            case Kind.PUBLISH if sender == partition.server:
                if step > self.versions[number]:
                    self.versions[number] = step
                    return [Adopt(number)]
                return []
        raise Unexpected(f"rank {sender} sends {message.kind.name} of partition {number}")

    def _pushed(self, push: Message) -> list[Action]:
        """As the server: take each shard's contribution to each step once."""
        number, step = push.partition, push.step
        if step > self.versions[number] + self.staleness_max:
            raise Unexpected(f"step {step} came where {self.versions[number]} is to be next")
        if step < self.versions[number] or push.first in self._arrived[number, step]:
            return []  # it is in already
        self._arrived[number, step].update(range(push.first, push.last))
        if not push.finite:
            self._not_finite.add((number, step))
        actions: list[Action] = [Add(number, step)] if push.finite else []
        return actions + self._replicate(number)

    def _replicate(self, number: int) -> list[Action]:
        """As the server: if the next step's sum is complete, its backup gets it first."""
        step, backup = self.versions[number], self.partitions[number].backup
        complete = len(self._arrived.get((number, step), ())) == self._all
        if not complete or number in self._replicating:
            return []
        if backup is None:
            return self._apply(number)
        self._replicating.add(number)
        finite = (number, step) not in self._not_finite
        return [Send(backup, Message(Kind.REPLICA, number, step, finite=finite))]

    def _apply(self, number: int) -> list[Action]:
        """As the server: what the backup has, everybody may see."""
        step, partition = self.versions[number], self.partitions[number]
        del self._arrived[number, step]
        finite = (number, step) not in self._not_finite
        self._not_finite.discard((number, step))
        self.versions[number] = step + 1
        publish = Message(Kind.PUBLISH, number, step + 1)
        others = (rank for rank in range(len(self.shards)) if rank not in partition.keepers)
        sends = [Send(rank, publish) for rank in others]
        return [Apply(number, step, finite), *sends, *self._replicate(number)]

    def _replica(self, replica: Message) -> list[Action]:
        """As the backup: in order, each step once; an old one is only acknowledged again."""
        number, step = replica.partition, replica.step
        if step > self.versions[number]:
            raise Unexpected(f"step {step} of partition {number} skips {self.versions[number]}")
        ack = Send(self.partitions[number].server, Message(Kind.ACK, number, step))
        if step < self.versions[number]:
            return [ack]
        self.versions[number] = step + 1
        return [Apply(number, step, replica.finite), ack]
