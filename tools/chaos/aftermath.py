"""After the storm: everything heals, and every promise is compared with what came of it."""

import asyncio
from pathlib import Path

from consensus.messages import Entry
from p2p.client import Client
from p2p.errors import P2PError
from p2p.storage.disk import Folder
from p2p.storage.log_store import LogStore
from tools.chaos.crew import Crew, Member, agreement
from tools.chaos.storm import Storm
from tools.chaos.workload import TIMEOUT_S, Workload, read
from tools.linearizability import check

HEAL_S = 60.0
KEPT_COMPARED = 100  # of the keys that were put once: compared on every peer
AT_ONCE = 16


def settle(crew: Crew, storm: Storm, within_s: float = HEAL_S) -> int:
    """Heal everything and wait for agreement; the log index agreed on, 0 if there was none."""
    storm.calm()
    agreed: list[int] = []

    def heal_and_look() -> bool:
        for member in crew.of("down"):  # it drained while the storm ended
            crew.start(member)
        if crew.of("leaving") or not all(member.is_in for member in crew.of("up")):
            return False
        for member in crew.of("up"):
            crew.ask("fault", at=member, kind="heal", peer=member.peer.id)
        agreed[:] = agreement(crew)
        return bool(agreed)

    crew.until(heal_and_look, "all peers run, know each other and agree", within_s)
    return agreed[0] if agreed else 0


def final_reads(crew: Crew, workload: Workload) -> dict[str, str | None]:
    """All keys, asked of the cluster, into the history; a lost write shows in the verdict."""
    keys = [*workload.hot_keys, *workload.kept]

    async def main() -> dict[str, str | None]:
        client = Client(crew.addresses, crew.cluster.key, TIMEOUT_S)
        places = asyncio.Semaphore(AT_ONCE)

        async def ask(key: str) -> tuple[str, str | None]:
            async with places:
                told = await workload.done(client, "final", key, "get", None)
            if told is None:
                crew.problems.append(f"after healing nobody answers what {key} is")
            return key, None if told is None else told.result

        try:
            return dict(await asyncio.gather(*map(ask, keys)))
        finally:
            await client.close()

    return asyncio.run(main())


def judge(crew: Crew, workload: Workload, final: dict[str, str | None]) -> str:
    """The verdict on the history; a problem unless it is linearizable."""
    verdict = check(workload.history)
    if not verdict.ok:
        crew.problems.append(f"the history: {verdict.sentence}")
    compared = list(final)[: len(workload.hot_keys) + KEPT_COMPARED]
    for member in crew.of("up"):
        for key, value in asyncio.run(_copies(crew, member, compared)).items():
            if value != final[key]:
                crew.problems.append(f"{member.name} has {value!r} at {key}, not {final[key]!r}")
    return verdict.sentence.splitlines()[0]


async def _copies(crew: Crew, member: Member, keys: list[str]) -> dict[str, str | None]:
    """What this peer's own copy of the state says."""
    client = Client([member.peer.address], crew.cluster.key, TIMEOUT_S)
    try:
        found = {}
        for key in keys:
            found[key] = read(await client.get(key, stale=True))
        return found
    finally:
        await client.close()


def compare_logs(crew: Crew, agreed: int) -> int:
    """Kill all and read what is on their disks; returns how many entries were on two or more."""
    crew.kill_all()
    known: dict[int, tuple[Entry, str]] = {}
    shared: set[int] = set()
    for member in crew.members:
        try:
            entries = _committed(member.folder, 0 if member.life == "gone" else agreed)
        except P2PError as error:
            crew.problems.append(f"{member.name} cannot be read: {error}")
            continue
        for entry in entries:
            other, name = known.setdefault(entry.index, (entry, member.name))
            if name != member.name:
                shared.add(entry.index)
            if other != entry:
                crew.problems.append(f"{member.name} and {name} differ: {entry} and {other}")
                break
    return len(shared)


def _committed(folder: Path, agreed: int) -> list[Entry]:
    """What this directory holds of the log, up to what it knew, or all agreed, to be committed."""
    if not folder.exists():
        return []
    disk = Folder(folder)
    try:
        storage = LogStore(disk).storage
    finally:
        disk.close()
    hard_state, _ = storage.initial_state()
    first, end = storage.first_index(), max(hard_state.commit, agreed)
    return list(storage.entries(first, min(end, storage.last_index()) + 1, 1 << 60))
