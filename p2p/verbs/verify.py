"""verify: is a running cluster well, from end to end? Plain lines, a real prompt per model."""

import argparse
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


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    text: str


async def verify(client: "Client", args: argparse.Namespace) -> int:
    status = await client.request("status")
    models = (await client.request("models"))["models"]
    checks = [*of_status(status), *of_models(models)]
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
    if bad:
        say(f"p2pnode: {bad} of {len(checks)} checks failed")
    return 0 if is_well else Unhealthy.exit_code


def of_status(status: Mapping[str, Any]) -> Iterator[Check]:
    cluster, peers = status["cluster"], status["peers"]
    names = {peer["id"]: peer["name"] for peer in peers}
    leader = names.get(cluster["leader"])
    lost = [peer["name"] for peer in peers if peer["state"] in ("dead", "suspect")]
    alive = [peer for peer in peers if peer["state"] == "alive"]
    yield _check(
        "peers",
        not lost,
        f"{len(alive)} of {len(alive) + len(lost)} alive",
        f"{', '.join(lost)} does not answer: start it again, or `p2pnode remove` it",
    )
    votes = [peer for peer in peers if peer["role"] in ("leader", "voter")]
    voting = [peer for peer in votes if peer["state"] == "alive"]
    yield _check(
        "quorum",
        bool(cluster["quorum"] and leader),
        f"{len(voting)} of {len(votes)} voters, led by {leader} in term {cluster['term']}",
        "no leader that a majority of the voters follows: start the missing peers",
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


def _bad(told: Mapping[str, Any]) -> str:
    return f"{told['name']} is {told['state']}" + (f": {told['reason']}" if told["reason"] else "")


def _check(name: str, is_well: bool, well: str, bad: str) -> Check:
    return Check(name, is_well, well if is_well else bad)


VERBS = (Verb("verify", "check a running cluster from end to end", add_common, asks(verify)),)
