"""The cases that etcd-io/raft tests its quorums and its configuration changes with.

They are its authors' (Apache License 2.0), so they are read from beside the checkout and not kept
in it. A case is a command, a line of four dashes, and what must come out.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from consensus.changes import ConfChangeType, Step
from consensus.confchange import (
    Configuration,
    InvalidChange,
    enter_joint,
    leave_joint,
    simple,
)
from consensus.inflights import Inflights
from consensus.progress import Progress
from consensus.quorum import (
    INFINITE_INDEX,
    JointConfig,
    majority_committed_index,
    majority_vote_result,
)

DATA = Path(__file__).parent.parent.parent / "shared" / "raft_testdata"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(),
    reason="etcd-raft's test cases are not beside this checkout; they are not part of it",
)
QUORUM_CASES, CONFCHANGE_CASES = 127, 58

STEPS = {
    "v": ConfChangeType.ADD_VOTER,
    "l": ConfChangeType.ADD_LEARNER,
    "r": ConfChangeType.REMOVE,
    "u": ConfChangeType.UPDATE,
}
# How etcd says it, and how this project does.
REFUSALS = {
    "removed all voters": "no voter would be left",
    "more than one voter changed without entering joint config": "needs a joint change",
    "can't apply simple config change in joint config": "leave it before the next change",
    "config is already joint": "under way already",
    "can't make a zero-voter config joint": "without voters cannot enter",
    "can't leave a non-joint config": "no joint change is under way",
}


def cases(folder: str) -> Iterator[tuple[str, list[list[str]]]]:
    """For each file: the lines of each of its cases, the dashes still between them."""
    for path in sorted((DATA / folder).glob("*.txt")):
        blocks, block = [], list[str]()
        for line in [*path.read_text().splitlines(), ""]:
            if line.startswith("#"):
                continue
            if line.strip():
                block.append(line.strip())
            elif "----" in block:
                blocks.append(block)
                block = []
        assert not block, path.name
        yield path.name, blocks


# -- quorums ---------------------------------------------------------------------------------------


def values(command: str, name: str) -> list[str]:
    """The items of name=(…) in a command."""
    found = re.search(rf"\b{name}=\(([^)]*)\)", command)
    return [item.strip() for item in found[1].split(",")] if found and found[1].strip() else []


def answer(command: str) -> str:
    """What our quorums say, in etcd's words."""
    incoming, outgoing = values(command, "cfg"), values(command, "cfgj")
    ids = list(dict.fromkeys([*incoming, *outgoing]))
    joint = JointConfig(frozenset(incoming), frozenset(outgoing))
    swapped = JointConfig(joint.outgoing, joint.incoming)
    if command.startswith("vote"):
        votes = {
            peer: said == "y"
            for peer, said in zip(ids, values(command, "votes"), strict=False)
            if said != "_"
        }
        result = joint.vote_result(votes)
        assert swapped.vote_result(votes) is result
        if not outgoing:
            assert majority_vote_result(incoming, votes) is result
        return f"Vote{result.value.capitalize()}"
    known = zip(ids, values(command, "idx"), strict=False)
    acked = {peer: int(index) for peer, index in known if index != "_"}
    index = joint.committed_index(acked)
    assert swapped.committed_index(acked) == index
    if not outgoing:
        assert majority_committed_index(incoming, acked) == index
    return "∞" if index == INFINITE_INDEX else str(index)


def test_quorums_agree_with_etcd() -> None:
    run = 0
    for name, blocks in cases("quorum"):
        for block in blocks:
            command, expected = block[0], block[-1].removeprefix("<empty majority quorum>")
            assert block[1] == "----", f"{name}: {block}"
            assert answer(command) == expected, f"{name}: {command}"
            run += 1
    assert run == QUORUM_CASES


# -- configuration changes -------------------------------------------------------------------------


class Tracker:
    """One file's configuration and the leader's progress in it, as etcd's test keeps them."""

    def __init__(self) -> None:
        self.configuration = Configuration()
        self.progress: dict[str, Progress] = {}
        self.last_index = 0

    def run(self, command: str, steps: list[Step]) -> str:
        """The outcome in etcd's words."""
        try:
            if command.startswith("simple"):
                changed = simple(self.configuration, steps)
            elif command.startswith("enter-joint"):
                changed = enter_joint(self.configuration, steps, "autoleave=true" in command)
            else:
                changed = leave_joint(self.configuration)
        except InvalidChange as refused:
            return next(etcd for etcd, ours in REFUSALS.items() if ours in str(refused))
        finally:
            self.last_index += 1
        self.configuration = changed
        self._track(max(1, self.last_index - 1))
        return "\n".join([self._members(), *map(self._progress, self._sorted(self.progress))])

    def _track(self, next_index: int) -> None:
        members = self.configuration.members()
        self.progress = {
            peer: self.progress.get(peer) or Progress(next_index, Inflights(1, 1))
            for peer in members
        }

    @staticmethod
    def _sorted(peers: frozenset[str] | dict[str, Progress]) -> list[str]:
        return sorted(peers, key=int)

    def _members(self) -> str:
        def put(name: str, peers: frozenset[str]) -> str:
            return f" {name}=({' '.join(self._sorted(peers))})" if peers else ""

        conf = self.configuration
        outgoing = f"&&({' '.join(self._sorted(conf.voters.outgoing))})" if conf.is_joint else ""
        return (
            put("voters", conf.voters.incoming).strip()
            + outgoing
            + put("learners", conf.learners)
            + put("learners_next", conf.learners_next)
            + (" autoleave" if conf.auto_leave else "")
        )

    def _progress(self, peer: str) -> str:
        progress = self.progress[peer]
        learner = " learner" if peer in self.configuration.learners else ""
        state = f"State{progress.state.value.capitalize()}"
        return f"{peer}: {state} match={progress.match} next={progress.next}{learner}"


def test_configuration_changes_agree_with_etcd() -> None:
    run = 0
    for name, blocks in cases("confchange"):
        tracker = Tracker()
        for block in blocks:
            dashes = block.index("----")
            steps = [
                Step(STEPS[word[0]], "" if word[1:] == "0" else word[1:])  # etcd's peer 0 is nobody
                for line in block[1:dashes]
                for word in line.split()
            ]
            expected = "\n".join(block[dashes + 1 :])
            assert tracker.run(block[0], steps) == expected, f"{name}: {block[:dashes]}"
            run += 1
    assert run == CONFCHANGE_CASES
