"""The asynchronous parameter server, simulated: nothing lost, nothing twice, nobody too far ahead.

A tensor's value is the list of what went into it: per step applied the (step, shard)s summed.
Replay one seed: python -m tests.test_parameter_server_window SEED
"""

import itertools
import random
import sys
from collections import deque
from dataclasses import dataclass, field

import pytest

from p2p.training.strategies.parameter_server_map import Partition, handovers, newest, place
from p2p.training.strategies.parameter_server_window import (
    Action,
    Add,
    Adopt,
    Apply,
    Kind,
    Message,
    Send,
    Unexpected,
    Window,
)

Shard = tuple[int, int]  # (step, shard)
Value = tuple[tuple[Shard, ...], ...]  # by step applied, what was summed; sorted
SEEDS = 150


@dataclass
class Trainer:
    """`state` holds the optimizer state of the parameters that it keeps."""

    name: int
    host: str
    values: list[Value]
    state: dict[int, Value]
    point: int = 0  # the last consistent point it knows; it could go back there
    window: Window | None = None
    sums: dict[tuple[int, int], list[Shard]] = field(default_factory=dict)
    computing: bool = False


class World:
    """A job on trainers that come and go; `run` lets it finish, whatever happens."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        choose = self.random.randint
        self.staleness, self.shards, self.total = choose(0, 4), choose(1, 6), choose(1, 14)
        self.sizes = [choose(1, 50) for _ in range(choose(1, 7))]
        self.names = 0
        self.trainers = [self.newcomer() for _ in range(min(choose(1, 5), self.shards))]
        self.deaths, self.lost, self.stale = choose(0, 4), 0, 0
        self.slow: set[int] = set()
        self.twice = self.random.choice([0.0, 0.2])  # how often a message comes once more

    def newcomer(self) -> Trainer:
        self.names += 1
        empty: list[Value] = [()] * len(self.sizes)
        return Trainer(self.names, self.random.choice("abb"), empty, {})

    def run(self) -> None:
        first = self.trainers[0]
        for trainer in self.trainers:  # the initial state, which everybody has whole
            trainer.state = dict(enumerate(first.values))
        while min(trainer.point for trainer in self.trainers) < self.total:
            self.generation()
        whole = tuple(tuple((s, v) for v in range(self.shards)) for s in range(self.total))
        for trainer in self.trainers:
            assert trainer.values == [whole] * len(self.sizes)

    def generation(self) -> None:
        self.form()
        at = self.point()
        while at < self.total:
            until = max(self.random.randint(at + 1, self.total), *self.versions())
            if not self.window(until):
                return
            at = until
            for trainer in self.trainers:
                trainer.point = at

    def versions(self) -> list[int]:
        return [len(value) for value in self.trainers[0].values]

    def point(self) -> int:
        return min(self.versions())

    def form(self) -> None:
        """Agree on the newest versions; parameters go to all, optimizer state to new keepers."""
        trainers = self.trainers
        numbers = range(len(self.sizes))
        tops, keepers = newest(
            [[len(value) for value in t.values] for t in trainers], [t.state for t in trainers]
        )
        if -1 in tops:  # both keepers are gone: back to the newest consistent point
            self.lost += 1
            back = max(t.point for t in trainers)
            for t in trainers:
                whole = tuple(tuple((s, v) for v in range(self.shards)) for s in range(back))
                t.values = [whole] * len(self.sizes)
                t.state = dict.fromkeys(numbers, whole)
                t.point = back
            tops, keepers = [back] * len(self.sizes), [list(range(len(trainers)))] * len(self.sizes)
        for number in numbers:  # nobody has seen what is not kept
            assert max(len(t.values[number]) for t in trainers) <= tops[number]
            for t in trainers:
                t.values[number] = trainers[keepers[number][0]].values[number]
        before = [k if len(k) <= 2 else [] for k in keepers]
        self.partitions = place(self.sizes, [t.host for t in trainers], before)
        needs = [next(p.keepers for p in self.partitions if n in p.parameters) for n in numbers]
        moves, lost = handovers(keepers, needs)
        assert not lost
        for move in moves:
            for taker in move.takers:
                for n in move.parameters:
                    trainers[taker].state[n] = trainers[move.giver].state[n]
        for rank, t in enumerate(trainers):
            t.state = {n: t.state[n] for n in numbers if rank in needs[n]}
            assert all(t.state[n] == t.values[n] for n in t.state)
        self.split(tops)
        if len(set(tops)) == 1:
            for t in trainers:
                t.point = tops[0]

    def split(self, tops: list[int]) -> None:
        """A partition's parameters share a version: split those that do not."""
        found: list[Partition] = []
        for p in self.partitions:
            for top in sorted({tops[n] for n in p.parameters}):
                numbers = tuple(n for n in p.parameters if tops[n] == top)
                found.append(Partition(p.server, p.backup, numbers))
        self.partitions = found

    def window(self, until: int) -> bool:
        """False when it was aborted: somebody died or came."""
        count = len(self.trainers)
        bounds = [self.shards * r // count for r in range(count + 1)]
        cuts = list(itertools.pairwise(bounds))
        tops = [len(self.trainers[0].values[p.parameters[0]]) for p in self.partitions]
        self.begun_at = tops
        for rank, trainer in enumerate(self.trainers):
            args = (rank, self.partitions, tops, cuts, self.staleness, until)
            trainer.window = Window(*args)
            trainer.sums, trainer.computing = {}, False
        self.mail: dict[tuple[int, int], deque[tuple[Message, object]]] = {
            (a, b): deque() for a in range(count) for b in range(count) if a != b
        }
        self.slow = set(self.random.sample(range(count), self.random.randint(0, count - 1)))
        while not all(w.done for w in self.windows()):
            if self.random.random() < 0.01 and self.disturb():
                return False
            self.event()
        assert self.twice or not any(self.mail.values())
        return True

    def windows(self) -> list[Window]:
        return [t.window for t in self.trainers if t.window is not None]

    def event(self) -> None:
        """A random trainer computes a step or a random message arrives; some are often slow."""
        able = [
            r for r, t in enumerate(self.trainers) if t.computing or self.windows()[r].may_compute
        ]
        if not self.random.random() < 0.1:
            able = [r for r in able if r not in self.slow] or able * (not any(self.mail.values()))
        full = [pair for pair, queue in self.mail.items() if queue]
        assert able or full, "nobody can go on"
        what = self.random.choice([*((r, r) for r in able), *full])
        rank = what[1]
        if what[0] == rank:
            self.compute(rank)
            return
        queue = self.mail[what]
        message, load = queue.popleft()
        window = self.trainers[rank].window
        assert window is not None
        self.carry_out(rank, window.receive(what[0], message), load)
        if self.random.random() < self.twice:
            again = window.receive(what[0], message)
            assert all(isinstance(a, Send) and a.message.kind is Kind.ACK for a in again)
            self.carry_out(rank, again, None)

    def compute(self, rank: int) -> None:
        trainer = self.trainers[rank]
        assert trainer.window is not None
        step = trainer.window.next
        trainer.computing = not trainer.computing
        if trainer.computing:
            oldest = min(len(value) for value in trainer.values)
            assert step - oldest <= self.staleness
            self.stale += step > oldest
            assert trainer.window.begin() == step
            return
        first, last = trainer.window.shards[rank]
        own = [(step, shard) for shard in range(first, last)]
        finite = step % 5 != 3  # the same everywhere: what is skipped by one is skipped by all
        self.carry_out(rank, trainer.window.computed(finite), own)

    def carry_out(self, rank: int, actions: list[Action], load: object) -> None:
        trainer = self.trainers[rank]
        for action in actions:
            match action:
                case Add(partition, step):
                    trainer.sums.setdefault((partition, step), []).extend(load)  # type: ignore[arg-type, call-overload]
                case Apply(partition, step, finite):
                    backup = self.partitions[partition].backup == rank
                    summed = load if backup else trainer.sums.pop((partition, step), [])
                    self.apply(trainer, partition, step, finite, summed)  # type: ignore[arg-type]
                case Adopt(partition):
                    numbers = self.partitions[partition].parameters
                    for n, value in zip(numbers, load, strict=True):  # type: ignore[arg-type, call-overload]
                        trainer.values[n] = value
                case Send(to, message):
                    if message.kind is Kind.PUSH:  # only what is missing is pushed
                        assert message.step >= self.begun_at[message.partition]
                    self.mail[rank, to].append((message, self.load(trainer, message, load)))

    def load(self, trainer: Trainer, message: Message, at_hand: object) -> object:
        numbers = self.partitions[message.partition].parameters
        match message.kind:
            case Kind.PUBLISH:
                return [trainer.values[n] for n in numbers]
            case Kind.REPLICA:
                return list(trainer.sums.get((message.partition, message.step), []))
        return at_hand

    def apply(
        self, trainer: Trainer, partition: int, step: int, finite: bool, summed: list[Shard]
    ) -> None:
        assert finite == (step % 5 != 3)
        summed = sorted(summed) if finite else [(step, v) for v in range(self.shards)]
        for n in self.partitions[partition].parameters:
            assert len(trainer.values[n]) == step
            trainer.values[n] = trainer.state[n] = (*trainer.values[n], tuple(summed))

    def disturb(self) -> bool:
        if self.deaths and len(self.trainers) > 1 and self.random.random() < 0.7:
            self.deaths -= 1
            for _ in range(self.random.choice([1, 1, 1, 2])):
                if len(self.trainers) > 1:
                    self.trainers.pop(self.random.randrange(len(self.trainers)))
            return True
        if len(self.trainers) < self.shards and self.random.random() < 0.5:
            self.trainers.insert(self.random.randrange(len(self.trainers) + 1), self.newcomer())
            return True
        return False


@pytest.mark.parametrize("batch", range(5))
def test_every_contribution_is_applied_once_whatever_happens(batch: int) -> None:
    for seed in range(batch, SEEDS, 5):
        try:
            World(seed).run()
        except BaseException as error:
            error.add_note(f"replay: python -m tests.test_parameter_server_window {seed}")
            raise


def test_the_worlds_had_deaths_losses_and_stale_steps() -> None:
    worlds = [World(seed) for seed in range(40)]
    before = [world.deaths for world in worlds]
    for world in worlds:
        world.run()
    assert sum(before) - sum(w.deaths for w in worlds) > 10
    assert sum(w.lost for w in worlds) > 0
    assert sum(w.stale for w in worlds) > 100


def pair() -> list[Partition]:
    return [Partition(0, 1, (0,)), Partition(1, 0, (1,))]


def test_who_is_too_far_ahead_waits() -> None:
    window = Window(0, pair(), [3, 3], [(0, 2), (2, 4)], 2, 10)
    for _ in range(3):
        assert window.may_compute
        window.begin()
        window.computed(True)
    assert window.next == 6
    assert not window.may_compute
    assert window.stalenesses == [1, 1, 1]


def test_the_server_shows_nothing_that_its_backup_lacks() -> None:
    window = Window(0, pair(), [0, 0], [(0, 1), (1, 2)], 1, 5)
    assert window.begin() == 0
    own = window.computed(True)
    assert own == [Add(0, 0), Send(1, Message(Kind.PUSH, 1, 0, 0, 1))]
    push = Message(Kind.PUSH, 0, 0, 1, 2)
    assert window.receive(1, push) == [Add(0, 0), Send(1, Message(Kind.REPLICA, 0, 0))]
    assert window.receive(1, push) == []  # twice
    assert window.versions == [0, 0]
    assert window.receive(1, Message(Kind.ACK, 0, 0)) == [Apply(0, 0, True)]
    assert window.versions == [1, 0]
    assert window.receive(1, Message(Kind.ACK, 0, 0)) == []
    assert window.receive(1, push) == []  # long applied


@pytest.mark.parametrize(
    ("sender", "message"),
    [
        (1, Message(Kind.PUSH, 7, 0, 1, 2)),
        (1, Message(Kind.PUSH, 1, 0, 1, 2)),
        (1, Message(Kind.PUSH, 0, 0, 0, 2)),
        (1, Message(Kind.PUSH, 0, 2, 1, 2)),
        (1, Message(Kind.REPLICA, 0, 0)),
        (1, Message(Kind.REPLICA, 1, 1)),
        (1, Message(Kind.ACK, 1, 0)),
        (1, Message(Kind.PUBLISH, 0, 1)),
    ],
)
def test_what_no_trainer_of_the_generation_sends_is_refused(sender: int, message: Message) -> None:
    window = Window(0, pair(), [0, 0], [(0, 1), (1, 2)], 1, 5)
    with pytest.raises(Unexpected):
        window.receive(sender, message)


if __name__ == "__main__":
    World(int(sys.argv[1])).run()
