"""What a host does before its core starts: read the log back, and cut off what was torn."""

from consensus import wal
from consensus.messages import Entry, HardState
from consensus.wal_scan import Verdict, scan
from tools.sim.host import Host
from tools.sim.shadow import Durable, ShadowLog
from tools.sim.violation import Violation


def recover(host: Host) -> tuple[HardState, list[Entry]]:
    """Hard state and entries as the codec finds them, synced before anybody builds on them.

    After a kill they may lie in the page cache only, where a power cut would still take them.

    Raises Violation unless they are what was synced plus some whole writes after it, in order.
    """
    data = host.disk.read()
    found = scan([(1, data)] if data else [], synced=0)
    host.disk.truncate(found.valid_bytes)
    host.next_frame = found.next_number
    if not found.valid_bytes:
        host.disk.write(wal.encode_start(1, HardState(), (0, 0)))
        host.next_frame = 2
    if found.verdict is Verdict.DAMAGED:
        raise Violation("recovery", f"{host.name} calls its disk damaged after a power cut.")
    entries = found.entries
    log = ShadowLog()
    log.replace(entries)
    host.log = log
    if "host-trust-page-cache" in host.mutations:
        return found.hard_state, entries
    host.disk.sync()
    durable = host.durable
    survivors = [matches(durable, found.hard_state, log)]
    for batch in durable.pending:
        if survivors[-1]:
            break
        durable.accept(batch)
        survivors.append(matches(durable, found.hard_state, log))
    durable.pending.clear()
    if not survivors[-1]:
        raise Violation(
            "recovery",
            f"{host.name} reads {found.hard_state} and {len(entries)} entries from its disk "
            f"({found.verdict}), which is neither what it synced nor that plus later writes.",
        )
    return found.hard_state, entries


def matches(durable: Durable, hard_state: HardState, log: ShadowLog) -> bool:
    return (
        (durable.term, durable.vote, durable.commit)
        == (hard_state.term, hard_state.vote, hard_state.commit)
        and durable.log.last == log.last
        and durable.log.chain[-1] == log.chain[-1]
    )
