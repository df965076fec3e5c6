"""verify: is a running cluster well, from end to end? Plain lines, a real prompt per model."""

import argparse
import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from p2p.errors import P2PError, Unhealthy
from p2p.verbs.verb import Verb, add_common, asks, print_json, say

if TYPE_CHECKING:
    from p2p.client import Client

PROMPT = "The "
TOKENS = 8
ANSWER_WITHIN_S = 20.0
REACHED_WITHIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    text: str


async def verify(client: "Client", args: argparse.Namespace) -> int:
    status = await client.request("status")
    models = (await client.request("models"))["models"]
    checks = [*of_status(status, await _silent(client, status)), *of_models(models)]
    for told in models:
        if told["replicas"]:
            checks.append(await _answers(client, told))
    is_well = all(check.ok for check in checks)
    if args.json:
        print_json({"healthy": is_well, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            print(f"{'ok ' if check.ok else 'BAD'}  {check.name:<8} {check.text}")
    bad = sum(not check.ok for check in checks)
    say(f"{bad} of {len(checks)} checks failed" if bad else "all is well")
    return 0 if is_well else Unhealthy.exit_code


async def _silent(client: "Client", status: Mapping[str, Any]) -> frozenset[str]:
    """Ids of the peers that cannot be reached from here. Asked only where nobody leads, and so
    nobody has judged who lives."""
    if _leads(status):
        return frozenset()

    async def is_silent(address: str) -> bool:
        try:
            await client.link(address).shake_hands(REACHED_WITHIN_S)
        except P2PError:
            return True
        return False

    peers = [peer for peer in status["peers"] if peer["state"] == "alive"]
    silent = await asyncio.gather(*(is_silent(peer["address"]) for peer in peers))
    return frozenset(peer["id"] for peer, is_so in zip(peers, silent, strict=True) if is_so)


def _leads(status: Mapping[str, Any]) -> bool:
    cluster = status["cluster"]
    return bool(cluster["quorum"] and cluster["leader"])


def of_status(status: Mapping[str, Any], silent: frozenset[str] = frozenset()) -> Iterator[Check]:
    cluster, peers = status["cluster"], status["peers"]
    names = {peer["id"]: peer["name"] for peer in peers}
    leader = names.get(cluster["leader"])
    is_lost = {peer["id"]: peer["state"] in ("dead", "suspect") for peer in peers}
    is_lost |= dict.fromkeys(silent, True)
    lost = [peer["name"] for peer in peers if is_lost[peer["id"]]]
    alive = [p for p in peers if p["state"] == "alive" and not is_lost[p["id"]]]
    votes = [peer for peer in peers if peer["role"] in ("leader", "voter")]
    voting = [peer for peer in votes if peer in alive]
    # A leader that has just lost the others takes a moment to see that it leads no more.
    is_led = _leads(status) and 2 * len(voting) > len(votes)
    yield _check(
        "peers",
        not lost,
        f"{len(alive)} of {len(alive) + len(lost)} alive",
        _gone(lost, may_be_removed=is_led),
    )
    yield _check(
        "quorum",
        is_led,
        f"{len(voting)} of {len(votes)} voters, led by {leader} in term {cluster['term']}",
        f"no leader that a majority of the voters follows; {len(voting)} of {len(votes)} answer: "
        "start the missing ones",
    )
    slots = sum(peer["slots"] for peer in alive)
    used = sum(peer["trainers"] + peer["replicas"] for peer in alive)
    yield _check("slots", slots > 0, f"{used} of {slots} used", "no peer that lives has any")
    for job in status["jobs"]:
        if job["kind"] == "train" and job["state"] in ("running", "recovering"):
            well = f"{job['name']} is running at step {job['step']}"
            yield _check("job", job["state"] == "running", well, _bad(job))


def of_models(models: list[dict[str, Any]]) -> Iterator[Check]:
    if not models:
        yield Check("model", True, "none is served")
    for told in models:
        have, want = len(told["replicas"]), told["replicas_min"]
        yield _check(
            "model",
            have >= want,
            f"{told['name']}: {have} of {told['target']} replicas, weights of step {told['step']}",
            f"{_bad(told)}; {have} of at least {want} replicas",
        )


async def _answers(client: "Client", told: Mapping[str, Any]) -> Check:
    """A real prompt, to its end."""
    asked = client.generate(
        PROMPT, model=told["id"], max_tokens=TOKENS, seed=0, timeout_s=ANSWER_WITHIN_S
    )
    try:
        text = "".join([piece async for piece in asked])
    except P2PError as error:
        return Check("prompt", False, f"{told['name']} does not answer: {error}")
    assert asked.end is not None
    count, seconds = asked.end.completion_tokens, asked.end.seconds
    said = f"{told['name']} on {asked.end.peer}: {count} tokens in {seconds:.2f} s, {text!r:.60}"
    return Check("prompt", count > 0, said)


def _gone(lost: list[str], may_be_removed: bool) -> str:
    if not lost:
        return ""
    if len(lost) > 1:
        names = f"{', '.join(lost[:-1])} and {lost[-1]}"
        removed = ", or `p2pnode remove` who is gone for good" if may_be_removed else ""
        return f"{names} do not answer: start them again{removed}"
    removed = f", or `p2pnode remove {lost[0]}`" if may_be_removed else ""
    return f"{lost[0]} does not answer: start it again{removed}"


def _bad(told: Mapping[str, Any]) -> str:
    return f"{told['name']} is {told['state']}" + (f": {told['reason']}" if told["reason"] else "")


def _check(name: str, is_well: bool, well: str, bad: str) -> Check:
    return Check(name, is_well, well if is_well else bad)


VERBS = (Verb("verify", "check a running cluster from end to end", add_common, asks(verify)),)
