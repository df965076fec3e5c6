"""Rules about agreement and membership: who votes, who is lost, whose clock is wrong. Pure."""

from collections import Counter
from collections.abc import Iterator
from statistics import median

from p2p.watch.facts import Facts
from p2p.watch.rule import Finding, Rule

FLAPPING_WITHIN_S = 300.0


def _no_quorum(facts: Facts, limit: float) -> Iterator[Finding]:
    if facts.raft.quorum:
        return
    voters = facts.raft.voters
    lost = sorted(
        facts.name(peer)
        for peer in voters
        if peer != facts.raft.self_id and not facts.answers(peer)
    )
    missing = f": start {', '.join(lost)} again" if lost else ""
    text = (
        f"no quorum: a majority of the {len(voters)} voters cannot be reached, nothing is "
        f"decided and training pauses{missing}"
    )
    yield Finding(text, "raft.voters_reachable", float(sum(map(facts.answers, voters))))


def _quorum_margin(facts: Facts, limit: float) -> Iterator[Finding]:
    """With one voter there is no majority that a failure could take away: see insights."""
    voters, spare = facts.raft.voters, facts.spare_voters
    if not facts.raft.quorum or len(voters) < 3 or spare >= limit:
        return
    lost = sorted(facts.name(peer) for peer in voters if not facts.answers(peer))
    alive = len(voters) - len(lost)
    text = (
        f"one failure from losing quorum: {alive} of {len(voters)} voters answer; "
        f"{', '.join(lost)} must come back or be removed"
    )
    yield Finding(text, "raft.spare_voters", float(max(spare, 0)))


def _peer_dead(facts: Facts, limit: float) -> Iterator[Finding]:
    for member in facts.peers:
        if member.state == "dead":
            text = f"{member.name} is dead: start it again, or remove it"
            yield Finding(text, "peer.alive", 0.0, peer=member.id)


def _flapping(facts: Facts, limit: float) -> Iterator[Finding]:
    """How often it was lost of late; once and back is a restart."""
    counts = Counter(
        str(event.peer)
        for event in facts.events(FLAPPING_WITHIN_S)
        if event.kind == "peer-dead" and event.peer in facts.state.members
    )
    for peer, count in counts.items():
        if count >= limit:
            minutes = FLAPPING_WITHIN_S / 60
            text = f"{facts.name(peer)} comes and goes: lost {count} times in {minutes:g} minutes"
            yield Finding(text, "peer.losses", float(count), peer=peer)


def _clock_skew(facts: Facts, limit: float) -> Iterator[Finding]:
    """Whose clock differs from the middle one, of two from the leader's: else the one that is wrong
    would name all others."""
    me = facts.raft.self_id
    ahead_s = {me: 0.0}
    for figure in facts.figures("link.*.clock_skew_s"):
        other = figure.metric.split(".")[1]
        if figure.peer == me and facts.answers(other):
            ahead_s[other] = figure.value
    leader = facts.raft.leader
    middle_s = ahead_s.get(leader or "", 0.0) if len(ahead_s) == 2 else median(ahead_s.values())
    for peer, own_s in ahead_s.items():
        wrong_s = own_s - middle_s
        if abs(wrong_s) > limit:
            way = "ahead of" if wrong_s > 0 else "behind"
            text = (
                f"the clock of {facts.name(peer)} is {abs(wrong_s):.1f} s {way} the others': "
                "times in events and charts mislead"
            )
            yield Finding(text, f"link.{peer}.clock_skew_s", wrong_s, peer=peer)


def _commit_latency(facts: Facts, limit: float) -> Iterator[Finding]:
    for figure in facts.figures("raft.commit_latency_s"):
        if figure.value > limit:
            text = (
                f"an agreement takes {figure.value * 1e3:.0f} ms at {facts.name(figure.peer)}: a "
                "slow disk, or slow links between the voters"
            )
            yield Finding(text, figure.metric, figure.value, peer=figure.peer)


RULES = (
    Rule(
        "no-quorum",
        "critical",
        "agreement",
        "a majority of the voters cannot be reached",
        _no_quorum,
        for_s=2.0,
        command="p2pnode peers",
    ),
    Rule(
        "quorum-margin",
        "warning",
        "agreement",
        "one more failure would lose the majority",
        _quorum_margin,
        for_s=1.0,
        command="p2pnode add",
    ),
    Rule(
        "peer-dead",
        "warning",
        "peers",
        "a peer is gone without having left",
        _peer_dead,
        for_s=2.0,
        command="p2pnode remove PEER",
    ),
    Rule(
        "peer-flapping",
        "warning",
        "peers",
        "a peer was lost several times within five minutes",
        _flapping,
        threshold=3.0,
        clear=2.0,
        command="p2pnode events --for-peer PEER",
    ),
    Rule(
        "clock-skew",
        "warning",
        "machines",
        "a peer's wall clock differs from the others', in seconds",
        _clock_skew,
        threshold=2.0,
        clear=1.0,
        for_s=10.0,
        clear_s=10.0,
        command="timedatectl status",
    ),
    Rule(
        "commit-latency",
        "warning",
        "agreement",
        "an entry takes long to be agreed, in seconds",
        _commit_latency,
        threshold=0.25,
        clear=0.1,
        for_s=10.0,
        clear_s=10.0,
        command="p2pnode transfer PEER",
    ),
)
