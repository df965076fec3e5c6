"""The course's situations with snapshots, on whole twins in memory. See test_lab_simulated."""

import pytest

from p2p.storage.snapshots import SnapshotPolicy
from tests.lab import Lab

SOON = SnapshotPolicy(every_entries=10, keep_entries=0)
LOG_MAX = 30
# Some is kept for who is catching up, and the next snapshot waits while one is being sent.
CATCHING_UP_MAX = 2 * SOON.patience * SOON.every_entries + 20


def test_logs_stay_short() -> None:
    lab = Lab(3, snapshots=SOON)
    keys = []
    for _ in range(40):
        keys.append(lab.agree())
        assert lab.kept_entries() <= LOG_MAX
    assert lab.starts_over() == 3
    lab.all_have(*keys)


@pytest.mark.parametrize("bad", [False, True], ids=["good network", "bad network"])
@pytest.mark.parametrize("how", ["cut off", "power cut"])
def test_who_was_away_too_long_gets_the_state(how: str, bad: bool) -> None:
    """Rounds in which one is away (sometimes the leader) while the others compact their logs."""
    lab = Lab(3, snapshots=SOON)
    if bad:
        lab.unreliable()
    keys = []
    for number in range(15):
        victim = lab.leader if number % 3 == 1 else lab.followers[0]
        if how == "cut off":
            lab.cut(victim)
        else:
            lab.crash(victim)
        keys += [lab.agree(on=2) for _ in range(12 if number % 2 else 3)]
        lab.heal()
        lab.restart()
        keys.append(lab.agree(within_s=20.0))
        if how == "cut off":  # a restart brings back what the last file of the log still holds
            assert lab.kept_entries() <= CATCHING_UP_MAX
    keys += [lab.agree() for _ in range(20)]
    assert lab.kept_entries() <= LOG_MAX
    lab.all_have(*keys)


def test_all_lose_power_again_and_again_and_nothing_goes_back() -> None:
    lab = Lab(3, snapshots=SOON)
    keys, applied = [], 0
    for _ in range(5):
        keys += [lab.agree() for _ in range(12)]
        lab.crash(*lab.names)
        lab.restart()
        keys.append(lab.agree())
        now = min(twin.peer.raft.applied for twin in lab.cluster.live())
        assert now > applied
        applied = now
    lab.all_have(*keys)


def test_a_snapshot_survives_what_is_written_after_it() -> None:
    """Power cuts before and after a single write: what is saved later must not hide the state."""
    lab = Lab(3, snapshots=SOON)
    keys = [lab.agree() for _ in range(12)]
    for count in (0, 1, 1):
        lab.crash(*lab.names)
        lab.restart()
        keys += [lab.agree() for _ in range(count)]
    lab.all_have(*keys)
