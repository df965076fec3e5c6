"""A peer that cannot know what it promised: its log is damaged below what was durable, or gone.

It must never vote or acknowledge under its id again, or what a majority holds could be forgotten
(Howard & Abraham's "amnesia"; Alagappan et al., FAST 2018, on telling damage from a torn tail). So
it sets the old files aside, takes a new id and joins as a learner; the same command of the log
removes the old id, the others send it all they have, and the autopilot gives it a vote again.
"""

from dataclasses import dataclass, replace

from consensus.node import bootstrap
from consensus.wal import segment_number
from p2p.errors import P2PError
from p2p.replicated.state import REPLACES_MAX
from p2p.storage.data_dir import Remembered, remember
from p2p.storage.disk import Disk
from p2p.storage.log_store import LogDamaged, LogStore, set_aside

ASIDE = "damaged-"
KEPT_ASIDE = 3
RECOVERY_NAME = "recovery.json"  # there while recover.py builds a log anew out of a damaged one


@dataclass(frozen=True, slots=True)
class Opened:
    """`note`: what happened to the log, for whoever started this peer; empty if nothing."""

    store: LogStore
    who: Remembered
    note: str = ""


def open_log(disk: Disk, who: Remembered, new_id: str, at_s: float, may_join: bool) -> Opened:
    """The log of a peer that founds or has run before, or an empty one under a new identity.

    `may_join`: addresses of others were given. Raises P2PError when nobody could repair it.
    """
    if disk.size(RECOVERY_NAME) is not None:
        raise P2PError(
            "a recovery of this peer's log was cut short, so the log is not all there: run "
            "`p2pnode recover --force-new-cluster` once more"
        )
    try:
        store = LogStore(disk)
    except LogDamaged as damaged:
        flaw = f"is damaged ({damaged.flaw})"
    else:
        if who.founding:
            return _founded(disk, store, who)
        if not store.is_new or who.replaces:
            return Opened(store, who)
        flaw = "is gone"
    _check_others_have_it(who, flaw, may_join)
    # In this order: after a crash in between, the next start finds the damage once more.
    who = replace(who, id=new_id, replaces=(*who.replaces, who.id)[-REPLACES_MAX:])
    remember(disk, who)
    kept = set_log_aside(disk, at_s)
    where = f"; the old files are kept as {kept}…" if kept else ""
    note = f"the log of this peer {flaw}: it joins as a new peer and is repaired{where}"
    return Opened(LogStore(disk), who, note)


def _founded(disk: Disk, store: LogStore, who: Remembered) -> Opened:
    """A cluster's first log. Nobody was told of it while `founding` was remembered, so a founder
    that is killed before it is there founds again.
    """
    if store.is_new:
        store.save(*bootstrap(who.id), must_sync=True)
    who = replace(who, founding=False)
    remember(disk, who)
    return Opened(store, who)


def set_log_aside(disk: Disk, at_s: float) -> str:
    """Rename the log's files; the newest KEPT_ASIDE sets are kept. Returns the prefix, if any."""
    prefix = aside_prefix(disk, at_s)
    moved = set_aside(disk, prefix)
    for old in _all_aside(disk)[:-KEPT_ASIDE]:
        if old != prefix:
            for name in disk.names():
                if name.startswith(old):
                    disk.remove(name)
    return prefix if moved else ""


def newest_aside(disk: Disk) -> str:
    """What the names of the log that was set aside last begin with; empty if there is none."""
    return (_all_aside(disk) or [""])[-1]


def aside_prefix(disk: Disk, at_s: float) -> str:
    """A new one: clocks go back, and two logs may be damaged within a second."""
    second = int(at_s)
    while any(name.startswith(f"{ASIDE}{second}-") for name in disk.names()):
        second += 1
    return f"{ASIDE}{second}-"


def _all_aside(disk: Disk) -> list[str]:
    """The beginnings of their names, oldest first."""
    seconds = {name.split("-")[1] for name in disk.names() if name.startswith(ASIDE)}
    return [f"{ASIDE}{second}-" for second in sorted(seconds, key=lambda text: (len(text), text))]


def corrupt_log(disk: Disk) -> None:
    """A drill: flip one bit in the middle of the newest segment; the next start finds it."""
    segments = [name for name in disk.names() if segment_number(name) is not None]
    if not segments:
        return
    written = (disk.read(segments[-1]) or b"").rstrip(b"\0")
    middle = len(written) // 2
    disk.overwrite(segments[-1], middle, bytes([written[middle] ^ 4]))


def _check_others_have_it(who: Remembered, flaw: str, may_join: bool) -> None:
    if who.sole_voter:
        raise P2PError(
            f"the log of this peer {flaw}, and it was the only voter, so nobody can repair it: "
            "`p2pnode recover --force-new-cluster` keeps what can still be read"
        )
    if not (who.others or may_join):
        raise P2PError(
            f"the log of this peer {flaw}, and it does not know where the others are: "
            "give --join HOST:PORT of one of them"
        )
