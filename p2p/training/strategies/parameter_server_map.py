"""Which trainer serves which parameters, and which other one keeps their backup. Pure.

A partition is the parameters (whole tensors) with the same server and the same backup. Placement is
greedy, largest tensor first (Graham, "Bounds on multiprocessing timing anomalies", 1969). Who
served a parameter before goes on, its backup is promoted when the server is gone, as long as nobody
serves more than in a placement from scratch; so a change of members moves little. Same input, same
placement on every trainer.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Partition:
    """Parameters by number, ascending. Ranks; `backup` is None when there is nobody else."""

    server: int
    backup: int | None
    parameters: tuple[int, ...]

    @property
    def keepers(self) -> tuple[int, ...]:
        """Who holds these parameters' optimizer state: the server first."""
        return (self.server,) if self.backup is None else (self.server, self.backup)


@dataclass(frozen=True)
class Handover:
    """These parameters' state goes from one rank to others."""

    giver: int
    takers: tuple[int, ...]
    parameters: tuple[int, ...]


def place(
    sizes: Sequence[int], hosts: Sequence[str], before: Sequence[Sequence[int]] = ()
) -> list[Partition]:
    """Partitions of parameters of these sizes over the ranks on these hosts.

    `before` = per parameter, today's ranks of those who kept it, its server first; who is gone has
    none. A backup is on another host than its server where there is one.
    """
    nobody: Sequence[Sequence[int]] = [()] * len(sizes)
    kept = before or nobody
    bound = max(_serve(sizes, len(hosts), nobody, sum(sizes))[1])
    server, _ = _serve(sizes, len(hosts), kept, bound)
    backed = [0] * len(hosts)
    found: list[Partition] = []
    for rank in range(len(hosts)):
        own = [number for number in range(len(sizes)) if server[number] == rank]
        found += _with_backups(rank, own, sizes, hosts, kept, backed, bound)
    return found


def _serve(
    sizes: Sequence[int], ranks: int, kept: Sequence[Sequence[int]], bound: int
) -> tuple[list[int], list[int]]:
    """Each parameter's server, and how much each rank serves."""
    served = [0] * ranks
    server = [0] * len(sizes)
    for number in sorted(range(len(sizes)), key=lambda n: (-sizes[n], n)):
        size = sizes[number]
        fits = [rank for rank in kept[number] if served[rank] + size <= bound]
        server[number] = fits[0] if fits else min(range(ranks), key=lambda rank: served[rank])
        served[server[number]] += size
    return server, served


def _with_backups(
    server: int,
    own: list[int],
    sizes: Sequence[int],
    hosts: Sequence[str],
    kept: Sequence[Sequence[int]],
    backed: list[int],
    bound: int,
) -> Iterable[Partition]:
    """Who keeps a parameter already goes on; the rest of a server's has one backup in common."""
    others = [rank for rank in range(len(hosts)) if rank != server]
    elsewhere = [rank for rank in others if hosts[rank] != hosts[server]]
    able = elsewhere or others
    groups: defaultdict[int | None, list[int]] = defaultdict(list)
    homeless = []
    for number in own:
        fits = [r for r in kept[number] if r in able and backed[r] + sizes[number] <= bound]
        if fits:
            groups[fits[0]].append(number)
            backed[fits[0]] += sizes[number]
        else:
            homeless.append(number)
    if homeless:
        # Of those with equally little, the next rank: so two servers do not choose the same one.
        size = len(hosts)
        best = min(able, key=lambda r: (backed[r], (r - server) % size)) if able else None
        groups[best] += homeless
        if best is not None:
            backed[best] += sum(sizes[number] for number in homeless)
    return [
        Partition(server, backup, tuple(sorted(numbers)))
        for backup, numbers in sorted(groups.items(), key=lambda group: group[1][0])
    ]


def newest(
    versions: Sequence[Sequence[int]], keeps: Sequence[Collection[int]]
) -> tuple[list[int], list[list[int]]]:
    """Per parameter the newest version that somebody keeps with its optimizer state, and by whom.

    Both arguments by rank: the version of each parameter, the parameters kept. -1 and nobody where
    all keepers are gone.
    """
    found = []
    keepers = []
    for number in range(len(versions[0])):
        by_rank = {rank: versions[rank][number] for rank, own in enumerate(keeps) if number in own}
        top = max(by_rank.values(), default=-1)
        found.append(top)
        keepers.append([rank for rank, version in by_rank.items() if version == top])
    return found, keepers


def handovers(
    keepers: Sequence[Sequence[int]], needs: Sequence[Iterable[int]]
) -> tuple[list[Handover], list[int]]:
    """Who must give which parameters' state to whom, and the parameters that nobody has any more.

    Per parameter: the ranks that keep it, and the ranks that will need it. Of several keepers the
    one with the fewest parameters to give so far gives.
    """
    together: defaultdict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
    given: defaultdict[int, int] = defaultdict(int)
    lost = []
    for number, (have, need) in enumerate(zip(keepers, needs, strict=True)):
        takers = tuple(sorted(set(need) - set(have)))
        if not have:
            lost.append(number)
        elif takers:
            giver = min(have, key=lambda rank: (given[rank], rank))
            given[giver] += 1
            together[giver, takers].append(number)
    found = [Handover(giver, takers, tuple(n)) for (giver, takers), n in sorted(together.items())]
    return found, lost
