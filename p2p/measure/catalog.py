"""Every metric there is: its name, unit and meaning. Pure.

Names are dotted, with the unit at the end. A part in angle brackets stands for one part of a real
name (`job.<job>.loss` is `job.job-1.loss`), a last one for all that is left. What is `told` goes to
all peers about twice a second, with the reports and the leader's digest; the rest is asked for.
"""

import re
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: str  # percent | bytes | bytes/s | s | samples/s | 1/s | C | W | "" (a number)
    meaning: str
    told: bool = False


_HOST = (
    Metric("system.cpu_percent", "percent", "of all cores of the host", True),
    Metric("system.load_1m", "", "processes that run or wait to, mean of a minute"),
    Metric("system.memory_bytes", "bytes", "in use on the host, without caches", True),
    Metric("system.memory_total_bytes", "bytes", "that the host has", True),
    Metric("system.disk_free_bytes", "bytes", "free where the peer's data directory is", True),
    Metric("system.disk_total_bytes", "bytes", "of that file system", True),
    Metric("system.disk_read_bytes_per_s", "bytes/s", "read from the host's disks"),
    Metric("system.disk_written_bytes_per_s", "bytes/s", "written to the host's disks"),
    Metric("system.net_sent_bytes_per_s", "bytes/s", "sent by the host, loopback included", True),
    Metric("system.net_received_bytes_per_s", "bytes/s", "received by the host", True),
)
_GPU = (
    Metric("gpu.<n>.busy_percent", "percent", "of the time in which a kernel ran", True),
    Metric("gpu.<n>.memory_bytes", "bytes", "of its memory in use", True),
    Metric("gpu.<n>.memory_total_bytes", "bytes", "that it has"),
    Metric("gpu.<n>.temperature_c", "C", "its temperature", True),
    Metric("gpu.<n>.power_w", "W", "what it draws"),
    Metric("gpu.<n>.throttled", "", "1 while heat or power slows it down, else 0", True),
)
_PROCESS = (
    Metric("process.rss_bytes", "bytes", "resident memory of the peer, without trainers", True),
    Metric("process.cpu_percent", "percent", "of one core, by the peer without trainers", True),
    Metric("process.loop_lag_s", "s", "how late the peer's loop came to a tick", True),
    Metric("process.sent_bytes_per_s", "bytes/s", "control messages sent"),
    Metric("process.received_bytes_per_s", "bytes/s", "control messages received"),
    Metric("process.dropped_messages", "", "malformed ones, since the peer's start"),
    Metric("process.requests_per_s", "1/s", "asked by clients and other peers"),
)
_LINK = (
    Metric("link.<peer>.round_trip_s", "s", "from a ping on the control link to its answer"),
    Metric("link.<peer>.loss_percent", "percent", "of the last pings without an answer"),
    Metric("link.<peer>.reconnects", "", "how often the link came back, since the peer's start"),
    Metric("link.<peer>.clock_skew_s", "s", "how far that peer's clock is ahead of this one's"),
    Metric("link.worst_round_trip_s", "s", "the slowest of this peer's links", True),
    Metric("link.worst_loss_percent", "percent", "the worst of this peer's links", True),
    Metric("link.worst_clock_skew_s", "s", "the greatest, in either direction", True),
    Metric("link.all_reconnects", "", "of all links together, since the peer's start", True),
)
_RAFT = (
    Metric("raft.term", "", "the term of the agreement", True),
    Metric("raft.elections", "", "terms that began since the peer's start", True),
    Metric("raft.commits_per_s", "1/s", "entries of the log that were applied", True),
    Metric("raft.commit_latency_s", "s", "from proposing to applied, on the leader", True),
    Metric("raft.log_bytes", "bytes", "of the entries since the last snapshot", True),
    Metric("raft.log_entries", "", "that are kept", True),
    Metric("raft.behind_entries", "", "known to be committed and not yet applied here", True),
    Metric("raft.leader_silent_s", "s", "since the leader was heard; 0 on the leader", True),
)
_JOB = (
    Metric("job.<job>.loss", "", "of the last batch, all trainers alike", True),
    Metric("job.<job>.step", "", "the last that was applied here", True),
    Metric("job.<job>.samples_per_s", "samples/s", "of all trainers together", True),
    Metric("job.<job>.step_s", "s", "one step, gradients and exchange", True),
    Metric("job.<job>.compute_s", "s", "of a step: gradients of this trainer's shards", True),
    Metric("job.<job>.barrier_s", "s", "of a step: exchange, with waiting for the others", True),
    Metric("job.<job>.stall_s", "s", "without a step, when a generation began", True),
    Metric("job.<job>.gradient_norm", "", "of the averaged gradient, before clipping"),
    Metric("job.<job>.skipped_steps", "", "in a row, as loss or gradient was NaN or Inf", True),
    Metric("job.<job>.wire_bytes_per_s", "bytes/s", "given to other trainers by this one", True),
    Metric("job.<job>.compression", "", "times less than float32 all-reduce", True),
    Metric("job.<job>.metric.<name>", "", "what the task measures, by its own name"),
)
_FILES = (
    Metric("checkpoint.bytes_per_s", "bytes/s", "at which this peer wrote its part", True),
    Metric("checkpoint.write_s", "s", "from the copy until the part was durable"),
    Metric("data.fetched_bytes_per_s", "bytes/s", "files and datasets, from other peers"),
    Metric("data.fetching_files", "", "on their way to this peer"),
)
_SERVE = (
    Metric("serve.<service>.requests_per_s", "1/s", "prompts of its clients, answered", True),
    Metric("serve.<service>.tokens_per_s", "1/s", "of these answers, passed on to clients", True),
    Metric("serve.<service>.waiting", "", "prompts of its clients that no replica has yet", True),
    Metric("serve.<service>.answering", "", "prompts of its clients that a replica has", True),
    Metric("serve.<service>.first_token_s", "s", "from a prompt to the first of its answer", True),
    Metric("serve.<service>.answer_s", "s", "from a prompt to the end of its answer", True),
)
CATALOG: tuple[Metric, ...] = (*_HOST, *_GPU, *_PROCESS, *_LINK, *_RAFT, *_JOB, *_FILES, *_SERVE)

NAME_CHARACTERS_MAX = 120


def _pattern(metric: Metric) -> re.Pattern[str]:
    parts = metric.name.split(".")
    ends = [r"(.+)" if part.startswith("<") else re.escape(part) for part in parts[-1:]]
    begins = [r"([^.]+)" if part.startswith("<") else re.escape(part) for part in parts[:-1]]
    return re.compile(r"\.".join([*begins, *ends]))


_EXACT = {metric.name: metric for metric in CATALOG if "<" not in metric.name}
_PATTERNS = {metric: _pattern(metric) for metric in CATALOG if "<" in metric.name}


@lru_cache(maxsize=1024)
def find(name: str) -> Metric | None:
    """What `name` measures; None for a name that is none."""
    if len(name) > NAME_CHARACTERS_MAX:
        return None
    if name in _EXACT:
        return _EXACT[name]
    return next((metric for metric, rule in _PATTERNS.items() if rule.fullmatch(name)), None)


def parts_of(metric: Metric, name: str) -> list[str] | None:
    """What stands in `name` for the parts in angle brackets; None if it is another metric's."""
    matched = _PATTERNS[metric].fullmatch(name) if find(name) is metric else None
    return list(matched.groups()) if matched else None


if __name__ == "__main__":
    for listed in CATALOG:
        marks = f"{listed.unit or '-':<10} {'told' if listed.told else '':<5}"
        print(f"{listed.name:<34} {marks} {listed.meaning}")
