"""What must hold: small rules over what was seen while a scenario played. Pure.

Each gives its verdict as a sentence with the figures it rests on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from p2p.control.controller import SILENT_S
from p2p.raft_host import ELECTION_TICKS, TICK_S
from p2p.scenarios.facts import BadCheck, Facts, Told, named
from p2p.trainer_desk import LEASE_S

# Seconds. A peer that was killed is missed at once, by its broken connection: before its trainer's
# lease would be over. One that is cut off is missed by its silence: an election (a time-out of up
# to twice ELECTION_S), SILENT_S without a word to the new leader, then as after a kill.
ELECTION_S = ELECTION_TICKS * TICK_S
BOUNDS_S = {"lease": LEASE_S, "silence": 2 * ELECTION_S + SILENT_S + LEASE_S}

Verdict = tuple[bool, str]


class Check(Protocol):
    """One thing that must hold."""

    def verdict(self, facts: Facts) -> Verdict:
        """Whether it does, and a sentence with the figures. Raises BadCheck."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The job made all its steps; with the test accuracy it must reach."""

    job: str
    accuracy: float | None = None

    def verdict(self, facts: Facts) -> Verdict:
        told = facts.job(self.job)
        sentence = f"{self.job} {told['state']} at step {told['step']} of {told['steps_total']}"
        good = told["state"] == "finished" and told["step"] == told["steps_total"]
        if not good:
            return False, sentence + (f": {told['reason']}" if told["reason"] else "")
        if self.accuracy is None:
            return True, sentence
        reached = told["metrics"].get("accuracy", 0.0)
        return reached >= self.accuracy, (
            f"{sentence}, test accuracy {reached:.4f} (at least {self.accuracy:g})"
        )


@dataclass(frozen=True, slots=True)
class SameBits:
    """Weights and optimizer state as of a run on one peer in which nothing happens."""

    job: str

    def verdict(self, facts: Facts) -> Verdict:
        mine, calm = facts.job(self.job)["state_hash"], facts.undisturbed[self.job]["state_hash"]
        if mine is not None and mine == calm:
            return True, f"{self.job} has the same bits as an undisturbed run on one peer: {mine}"
        return False, f"{self.job} ended with {mine}, an undisturbed run on one peer with {calm}"


@dataclass(frozen=True, slots=True)
class ExactLedger:
    """Every sample of every epoch was used once."""

    job: str

    def verdict(self, facts: Facts) -> Verdict:
        rows: Sequence[Told] = facts.job(self.job)["ledger"]
        repeated, missing = (sum(row[name] for row in rows) for name in ("repeated", "missing"))
        good = bool(rows) and not repeated and not missing
        return good, (
            f"{self.job} repeated {repeated} and missed {missing} samples in {len(rows)} epochs"
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """The job had a generation with that in its reason; {NAME} stands for what a peer is called."""

    job: str
    reason: str

    def verdict(self, facts: Facts) -> Verdict:
        wanted = named(self.reason, facts)
        found = [one for one in facts.job(self.job)["generations"] if wanted in one["reason"]]
        if found:
            return True, f"generation {found[0]['number']} of {self.job}: {found[0]['reason']}"
        said = "; ".join(one["reason"] for one in facts.job(self.job)["generations"])
        return False, f"{self.job} has no generation because {wanted!r}, only: {said or 'none'}"


@dataclass(frozen=True, slots=True)
class Stall:
    """No such generation kept the others from stepping for longer: seconds, or a name of BOUNDS_S.

    The bound is of the whole stall: from the last step before to the first one after.
    """

    job: str
    reason: str
    below: str | float

    def verdict(self, facts: Facts) -> Verdict:
        bound_s = BOUNDS_S.get(self.below) if isinstance(self.below, str) else float(self.below)
        if bound_s is None:
            raise BadCheck(f"below is {self.below!r}: seconds, or one of {', '.join(BOUNDS_S)}")
        wanted = named(self.reason, facts)
        found = [
            one["stall_seconds"]
            for one in facts.job(self.job)["generations"]
            if wanted in one["reason"] and one["stall_seconds"] is not None
        ]
        if not found:
            return False, f"{self.job}: no stall was measured for {wanted!r}"
        why = f" ({self.below})" if isinstance(self.below, str) else ""
        longest_s = max(found)
        return longest_s < bound_s, (
            f"{self.job} stood still for {longest_s:.2f} s when {wanted}, bound {bound_s:g} s{why}"
        )


@dataclass(frozen=True, slots=True)
class Trained:
    """The peer was a member of at least one generation that stepped."""

    job: str
    peer: str

    def verdict(self, facts: Facts) -> Verdict:
        id_ = facts.id_of(self.peer)
        made = [one for one in facts.job(self.job)["generations"] if id_ in one["members"]]
        numbers = ", ".join(str(one["number"]) for one in made)
        if made:
            return True, f"{self.peer} trained in generation {numbers} of {self.job}"
        return False, f"{self.peer} never trained for {self.job}"


@dataclass(frozen=True, slots=True)
class Methods:
    """The job's strategies were these, one after the other."""

    job: str
    strategies: tuple[str, ...]

    def verdict(self, facts: Facts) -> Verdict:
        used: list[str] = []
        for one in facts.job(self.job)["generations"]:
            if used[-1:] != [one["strategy"]]:
                used.append(one["strategy"])
        sentence = f"{self.job} used {', then '.join(used) or 'nothing'}"
        wanted = ", then ".join(self.strategies)
        good = used == list(self.strategies)
        return good, sentence if good else f"{sentence}; expected {wanted}"


@dataclass(frozen=True, slots=True)
class OneLeader:
    """In no term did two peers say that they lead: split brain."""

    def verdict(self, facts: Facts) -> Verdict:
        for term, leaders in sorted(facts.leaders.items()):
            if len(leaders) > 1:
                names = " and ".join(sorted(facts.names.get(one, one) for one in leaders))
                return False, f"{names} both said that they lead term {term}"
        told = ", ".join(
            f"term {term} {facts.names.get(one, one)}"
            for term, leaders in sorted(facts.leaders.items())
            for one in leaders
        )
        return bool(told), f"never two leaders of a term: {told}" if told else "nobody ever led"


@dataclass(frozen=True, slots=True)
class Terms:
    """At least so many leaders came one after the other: an election there was."""

    least: int

    def verdict(self, facts: Facts) -> Verdict:
        count = len(facts.leaders)
        return count >= self.least, f"{count} terms had a leader (at least {self.least})"


@dataclass(frozen=True, slots=True)
class Refused:
    """The write of that name was not taken."""

    write: str

    def verdict(self, facts: Facts) -> Verdict:
        if self.write not in facts.writes:
            raise BadCheck(f"no step writes anything called {self.write!r}")
        why = facts.writes[self.write]
        if why is None:
            return False, f"the write {self.write!r} was taken"
        return True, f"the write {self.write!r} was not taken: {why}"


@dataclass(frozen=True, slots=True)
class Taken:
    """The write of that name was agreed."""

    write: str

    def verdict(self, facts: Facts) -> Verdict:
        refused, sentence = Refused(self.write).verdict(facts)
        return not refused, sentence


@dataclass(frozen=True, slots=True)
class Value:
    """What was read under that name."""

    read: str
    equals: str

    def verdict(self, facts: Facts) -> Verdict:
        if self.read not in facts.reads:
            raise BadCheck(f"no step reads anything called {self.read!r}")
        found, wanted = facts.reads[self.read], self.equals
        return found == wanted, f"the read {self.read!r} gave {found!r} (expected {wanted!r})"


@dataclass(frozen=True, slots=True)
class Rate:
    """One measured rate, compared with another one."""

    of: str
    to: str
    least: float
    times: int = 1  # as often as `to` it would be at best: for the efficiency

    def verdict(self, facts: Facts) -> Verdict:
        for name in (self.of, self.to):
            if name not in facts.rates:
                raise BadCheck(f"no step measures a rate called {name!r}")
        mine, other = facts.rates[self.of], facts.rates[self.to]
        ratio = mine / other if other else 0.0
        best = f", efficiency {ratio / self.times:.0%}" if self.times > 1 else ""
        return ratio >= self.least, (
            f"{self.of} made {mine:.0f} samples/s, {ratio:.2f} times {self.to} ({other:.0f})"
            f"{best}; at least {self.least:g} times"
        )


@dataclass(frozen=True, slots=True)
class Happened:
    """One of the cluster's events says so."""

    event: str

    def verdict(self, facts: Facts) -> Verdict:
        wanted = named(self.event, facts)
        found = next((text for text in facts.events if wanted in text), None)
        return found is not None, found or f"no event says {wanted!r}"


@dataclass(frozen=True, slots=True)
class Insight:
    """The peers themselves said so, when a step waited for an insight."""

    insight: str

    def verdict(self, facts: Facts) -> Verdict:
        found = next((text for text in facts.insights if self.insight in text), None)
        return found is not None, found or f"no insight says {self.insight!r}"


# What a file says after `check`; OneLeader is checked always.
CHECKS: dict[str, type[Any]] = {
    "finished": Finished,
    "same-bits": SameBits,
    "exact-ledger": ExactLedger,
    "generation": Generation,
    "stall": Stall,
    "trained": Trained,
    "strategies": Methods,
    "terms": Terms,
    "refused": Refused,
    "taken": Taken,
    "value": Value,
    "rate": Rate,
    "happened": Happened,
    "insight": Insight,
}
