"""How long commands take while a new peer fetches a large snapshot, beside quiet times."""

import threading
import time
from typing import Any

from p2p.errors import P2PError
from tools.bench.contender import median, percentile
from tools.bench.peers import Peers

VALUE_BYTES = 60_000
GOAL = 3.0
CAUGHT_UP_WITHIN_S = 120.0


def measure(megabytes: int, seconds: float) -> dict[str, Any]:
    """Fills three peers with that much, then joins a fourth while commands go on."""
    print(f"\ncommands while a fourth peer fetches a snapshot of {megabytes} MB")
    with Peers(3) as cluster, cluster.connect(cluster.leader) as connection:
        for number in range(megabytes * 1_000_000 // VALUE_BYTES):
            connection.put_bytes(f"large-{number}", VALUE_BYTES)
        _wait_for_snapshot(cluster)
        quiet = connection.puts(seconds)
        applied = int(connection.ask("stats")["applied_index"])
        joined, fetching = threading.Event(), list[float]()
        start_s = time.perf_counter()

        def load() -> None:
            with cluster.connect(cluster.leader) as busy:
                while not joined.is_set():
                    fetching.extend(busy.puts(0.05))

        loading = threading.Thread(target=load)
        loading.start()
        try:
            joiner = cluster.cluster.start()
            with cluster.connect(joiner) as newcomer:
                _wait_until_applied(newcomer, applied)
        finally:
            took_s = time.perf_counter() - start_s
            joined.set()
            loading.join()
    return _told(quiet, fetching, took_s)


def _told(quiet: list[float], fetching: list[float], took_s: float) -> dict[str, Any]:
    before, during = percentile(quiet, 0.99), percentile(fetching, 0.99)
    print(f"caught up in {took_s:.2f} s, the start of its process included")
    for title, taken in (("quiet", quiet), ("meanwhile", fetching)):
        print(
            f"{title:<10} {len(taken):>6} commands: median {1e3 * median(taken):.3f} ms, "
            f"p99 {1e3 * percentile(taken, 0.99):.3f} ms, most {1e3 * max(taken):.3f} ms"
        )
    print(f"p99 meanwhile / quiet: {during / before:.2f} (goal: at most {GOAL:g})")
    return {"caught_up_s": took_s, "quiet_s": quiet, "meanwhile_s": fetching}


def _wait_for_snapshot(cluster: Peers) -> None:
    """Until the leader's log no longer begins at its beginning, so that a joiner needs one."""
    with cluster.connect(cluster.leader) as connection:
        deadline_s = time.monotonic() + CAUGHT_UP_WITHIN_S
        while int(connection.ask("stats")["first_index"]) <= 1:
            if time.monotonic() > deadline_s:
                raise P2PError("the leader has not compacted its log, so there is no snapshot")
            connection.puts(0.1)


def _wait_until_applied(connection: Any, index: int) -> None:
    deadline_s = time.monotonic() + CAUGHT_UP_WITHIN_S
    while int(connection.ask("stats")["applied_index"]) < index:
        if time.monotonic() > deadline_s:
            raise P2PError(f"the new peer did not catch up within {CAUGHT_UP_WITHIN_S:g} s")
        time.sleep(0.01)
