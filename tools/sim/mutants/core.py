"""Mutants of consensus/."""

from tools.sim.mutants.mutant import Mutant

CORE: tuple[Mutant, ...] = (
    Mutant(
        "commit-old-term",
        "consensus/replication.py",
        "index <= log.last_index() or log.term(index) != raft.term:",
        "index <= log.last_index():",
        "a leader commits entries of earlier terms by counting (paper, figure 8)",
    ),
    Mutant(
        "vote-for-old-log",
        "consensus/election.py",
        "granted = free and raft.log.is_up_to_date(message.index, message.log_term)",
        "granted = free",
        "a vote goes to a candidate whose log is older",
    ),
    Mutant(
        "vote-twice",
        "consensus/election.py",
        "or (raft.vote is None and raft.leader is None)",
        "or raft.leader is None",
        "a second vote in one term",
    ),
)
