"""Mutants of consensus/: voting, counting, the log, and who is a member."""

from tools.sim.mutants.mutant import Edit, Mutant

ELECTION, STEP, RAFT = "consensus/election.py", "consensus/step.py", "consensus/raft.py"
REPLICATION, FOLLOWING = "consensus/replication.py", "consensus/following.py"
MEMBERSHIP, QUORUM, NODE = "consensus/membership.py", "consensus/quorum.py", "consensus/node.py"
LOG, PROGRESS = "consensus/log.py", "consensus/progress.py"
READING, READS = "consensus/reading.py", "consensus/reads.py"

VOTING = (
    Mutant(
        "vote-for-old-log",
        "a vote goes to a candidate whose log is older",
        Edit(
            ELECTION,
            "granted = free and raft.log.is_up_to_date(message.index, message.log_term)",
            "granted = free",
        ),
    ),
    Mutant(
        "vote-twice",
        "a second vote in one term",
        Edit(
            ELECTION,
            "or (raft.vote is None and raft.leader is None)",
            "or raft.leader is None",
        ),
    ),
    Mutant(
        "vote-not-persisted",
        "a vote that opens no term is not synced",
        Edit(
            NODE,
            "(hard.term, hard.vote) != (previous.term, previous.vote)",
            "hard.term != previous.term",
        ),
    ),
    Mutant(
        "vote-forgotten",
        "the vote does not survive a restart",
        Edit(RAFT, "self.vote = hard.vote", "self.vote = None"),
    ),
    Mutant(
        "count-old-votes",
        "a candidate counts votes of an earlier term",
        Edit(
            STEP,
            "    if message.term < raft.term:\n",
            "    if message.term < raft.term and message.type is not MessageType.VOTE_RESP:\n",
        ),
    ),
    Mutant(
        "pre-vote-refreshes-contact",
        "a granted pre-vote counts as having heard of a leader",
        Edit(
            ELECTION,
            "    if not pre_vote:\n        raft.election_elapsed = 0\n        raft.vote =",
            "    raft.election_elapsed = 0\n    if not pre_vote:\n        raft.vote =",
        ),
    ),
    Mutant(
        "no-no-op",
        "a new leader appends no entry of its own term",
        Edit(RAFT, '        self.append(EntryType.NORMAL, b"")\n', ""),
    ),
)

COUNTING = (
    Mutant(
        "commit-old-term",
        "a leader commits entries of earlier terms by counting (paper, figure 8)",
        Edit(
            REPLICATION,
            "index <= log.last_index() or log.term(index) != raft.term:",
            "index <= log.last_index():",
        ),
    ),
    Mutant(
        "count-old-acknowledgements",
        "a leader counts acknowledgements of an earlier term",
        Edit(
            STEP,
            "    if message.term < raft.term:\n",
            "    if message.term < raft.term and message.type is not MessageType.APP_RESP:\n",
        ),
    ),
    Mutant(
        "match-moves-back",
        "an old acknowledgement lowers what is known of a peer's log",
        Edit(
            PROGRESS,
            "        if index <= self.match:\n            return False\n        self.match",
            "        if index == self.match:\n            return False\n        self.match",
        ),
    ),
    Mutant(
        "joint-commit-by-one-half",
        "during a joint change the new voters alone commit",
        Edit(QUORUM, "majority_committed_index(self.outgoing, acked),", "INFINITE_INDEX,"),
    ),
    Mutant(
        "joint-vote-by-one-half",
        "during a joint change the new voters alone elect",
        Edit(
            QUORUM,
            "majority_vote_result(self.outgoing, votes),",
            "majority_vote_result(self.incoming, votes),",
        ),
    ),
)

FOLLOWERS = (
    Mutant(
        "entry-before-not-compared",
        "a follower appends without comparing the entry before",
        Edit(
            LOG,
            "        if not self.matches(index, term):\n            return False\n        for",
            "        if index > self.last_index():\n            return False\n        for",
        ),
    ),
    Mutant(
        "truncate-matched",
        "a follower truncates entries that match",
        Edit(
            LOG,
            "            if not self.matches(entry.index, entry.term):\n",
            "            if entry:\n",
        ),
    ),
    Mutant(
        "heartbeat-commits-all",
        "a heartbeat tells the leader's commit index whatever the follower holds",
        Edit(
            REPLICATION,
            "min(raft.progress[peer].match, raft.log.committed)\n        raft.send(",
            "raft.log.committed\n        raft.send(",
        ),
    ),
    Mutant(
        "snapshot-lowers-commit",
        "an old snapshot replaces a log that is committed further",
        Edit(FOLLOWING, "    if meta.index > log.committed:\n", "    if meta:\n"),
        Edit(
            LOG,
            "if meta.index <= self.committed:\n            raise SafetyViolation(",
            "if meta.index < 0:\n            raise SafetyViolation(",
        ),
        Edit(
            "p2p/storage/snapshot_receiver.py",
            "        if meta.index <= commit:\n",
            "        if meta.index < 0:\n",
        ),
        Edit(
            "p2p/storage/log_store.py",
            "        if meta.index <= older:\n            raise ValueError(",
            "        if meta.index < 0:\n            raise ValueError(",
        ),
        Edit(
            "consensus/storage.py",
            "if meta.index < self._snapshot.index:\n            raise ValueError(",
            "if meta.index < 0:\n            raise ValueError(",
        ),
    ),
    Mutant(
        "snapshot-without-members",
        "the configuration is not restored from a snapshot",
        Edit(
            FOLLOWING,
            "            raft.configure(Configuration.from_conf_state(meta.conf))\n",
            "            Configuration.from_conf_state(meta.conf)\n",
        ),
    ),
)

MEMBERS = (
    Mutant(
        "two-changes-at-once",
        "the guards of membership changes are off",
        Edit(
            MEMBERSHIP,
            "    check_leads(raft)\n    _check_guards(raft)\n    try:\n",
            "    check_leads(raft)\n    try:\n",
        ),
    ),
    Mutant(
        "change-before-own-commit",
        "a leader changes members before it has committed in its term (the bug of 2015)",
        Edit(
            MEMBERSHIP,
            "    if not raft.has_committed_in_term():\n        raise ProposalDropped(",
            "    if not raft:\n        raise ProposalDropped(",
        ),
        Edit(
            RAFT,
            "        self.pending_conf_index = last\n",
            "        self.pending_conf_index = 0\n",
        ),
    ),
    Mutant(
        "leaver-leads-on",
        "a leader that is no voter any more goes on leading",
        Edit(
            MEMBERSHIP,
            "raft.is_voter():\n        raft.become_follower(raft.term, None)\n        return",
            "raft.is_voter():\n        pass",
        ),
    ),
)

READERS = (
    Mutant(
        "read-key-used-again",
        "all rounds of reads have one key: an old answer confirms a new round",
        Edit(
            READS,
            "        self._count += 1\n        return self._prefix",
            "        return self._prefix",
        ),
    ),
    Mutant(
        "read-before-own-commit",
        "a new leader serves reads before it has committed in its term",
        Edit(
            READING,
            "    return raft.role is not Role.LEADER or raft.has_committed_in_term()\n",
            "    return True\n",
        ),
    ),
    Mutant(
        "read-without-quorum",
        "a leader serves reads without asking whether it still leads",
        Edit(
            READING,
            "    if not raft.configuration.voters.has_majority(reads.rounds[key].confirmed_by):\n",
            "    if not reads.rounds:\n",
        ),
    ),
)

CORE = (*VOTING, *COUNTING, *FOLLOWERS, *MEMBERS, *READERS)
