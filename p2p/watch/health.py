"""How well a cluster is, 0 to 100, in parts whose points add up. Pure.

Points are lost by what fires: a critical alert costs all of its part, a warning half, an
information a tenth. What is lost without a quorum is said once more: nothing trains then. So a
score is never lower than what `p2pnode alerts` explains.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from p2p.watch.alerting import Alert
from p2p.watch.facts import Facts
from p2p.watch.rule import Part

OF: Mapping[Part, int] = {"agreement": 40, "training": 30, "peers": 15, "machines": 15}
OF_PEER: Mapping[str, int] = {"answers": 40, "training": 30, "machines": 30}
KEPT = {"critical": 0.0, "warning": 0.5, "info": 0.9}
NEEDS_QUORUM: frozenset[Part] = frozenset({"training"})


@dataclass(frozen=True, slots=True)
class Points:
    """A part of a score: `points` of `of`, and why."""

    name: str
    points: int
    of: int
    why: str

    def to_wire(self) -> dict[str, Any]:
        return {"name": self.name, "points": self.points, "of": self.of, "why": self.why}


def of_cluster(facts: Facts, firing: Iterable[Alert]) -> list[Points]:
    alerts = list(firing)
    return [_cluster_part(facts, part, of, alerts) for part, of in OF.items()]


def _cluster_part(facts: Facts, part: Part, of: int, alerts: list[Alert]) -> Points:
    waiting = any(not job.is_final for job in facts.state.jobs.values())
    if part in NEEDS_QUORUM and waiting and not facts.raft.quorum:
        return Points(part, 0, of, "nothing trains without a quorum")
    if part == "peers":
        return _peers(facts, of, alerts)
    return _by_worst(
        part, of, [alert for alert in alerts if alert.rule.part == part], _fine(facts, part)
    )


def _peers(facts: Facts, of: int, alerts: list[Alert]) -> Points:
    """By how many answer; an alert about them costs half of what is left."""
    wanted = facts.peers
    there = [member for member in wanted if facts.answers(member.id)]
    share = len(there) / len(wanted) if wanted else 1.0
    missing = [member.name for member in wanted if member not in there]
    told = f"{len(there)} of {len(wanted)} answer"
    verb = "does" if len(missing) == 1 else "do"
    told += f"; {', '.join(missing)} {verb} not" if missing else ""
    others = [a for a in alerts if a.rule.part == "peers" and a.rule.name != "peer-dead"]
    if others:
        return Points("peers", round(of * share * KEPT["warning"]), of, others[0].text)
    return Points("peers", round(of * share), of, told)


def of_peer(facts: Facts, peer: str, firing: Iterable[Alert]) -> list[Points]:
    alerts = [alert for alert in firing if alert.found.peer == peer]
    member = facts.state.members[peer]
    if member.state in ("dead", "left"):
        why = "it is dead" if member.state == "dead" else "it has left"
        return [Points(name, 0, of, why) for name, of in OF_PEER.items()]
    silent = not facts.answers(peer)
    answers = Points("answers", 20, 40, "not heard of for a second or more") if silent else None
    by_part = {
        "answers": [alert for alert in alerts if alert.rule.part in ("agreement", "peers")],
        "training": [alert for alert in alerts if alert.rule.part == "training"],
        "machines": [alert for alert in alerts if alert.rule.part == "machines"],
    }
    parts = [_by_worst(name, of, by_part[name], _PEER_FINE[name]) for name, of in OF_PEER.items()]
    return [answers, *parts[1:]] if answers else parts


_PEER_FINE = {
    "answers": "alive and heard of",
    "training": "nothing is wrong with its trainers",
    "machines": "disk, clock and GPUs are as they should be",
}


def _by_worst(name: str, of: int, alerts: list[Alert], fine: str) -> Points:
    if not alerts:
        return Points(name, of, of, fine)
    worst = min(alerts, key=lambda alert: KEPT[alert.severity])
    more = f" (and {len(alerts) - 1} more)" if len(alerts) > 1 else ""
    return Points(name, round(of * KEPT[worst.severity]), of, f"{worst.text}{more}")


def _fine(facts: Facts, part: Part) -> str:
    match part:
        case "agreement":
            spare = facts.spare_voters
            votes = f"{len(facts.raft.voters)} vote"
            return f"a leader, a majority, and {spare} may fail ({votes})" if spare > 0 else votes
        case "training":
            jobs = len(facts.running)
            return f"{jobs} running, nothing is wrong with them" if jobs else "no job runs"
        case _:
            return "disks, clocks and GPUs are as they should be"


def score(parts: Iterable[Points]) -> int:
    return sum(part.points for part in parts)


def to_wire(facts: Facts, firing: Iterable[Alert]) -> dict[str, Any]:
    """The answer to `health`: of the cluster, and of each peer by id."""
    alerts = list(firing)
    whole = of_cluster(facts, alerts)
    peers = []
    for member in sorted(facts.state.members.values(), key=lambda member: member.id):
        parts = of_peer(facts, member.id, alerts)
        told = {"id": member.id, "name": member.name, "score": score(parts)}
        peers.append({**told, "parts": [part.to_wire() for part in parts]})
    cluster = {"score": score(whole), "parts": [part.to_wire() for part in whole]}
    return {"cluster": cluster, "peers": peers}
