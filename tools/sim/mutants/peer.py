"""Mutants of p2p/: the disk, the host of the core, sessions and reads."""

from tools.sim.mutants.mutant import Edit, Mutant

HOST, STORE, SCAN = "p2p/raft_host.py", "p2p/storage/log_store.py", "consensus/wal_scan.py"

DISK = (
    Mutant(
        "answer-before-sync",
        "votes and acknowledgements leave before they are durable",
        Edit(
            HOST,
            "                self._send_all(ready.messages_now)\n",
            "                self._send_all(ready.messages_now + ready.messages_after)\n",
        ),
    ),
    Mutant(
        "log-never-synced",
        "the log is written, never synced",
        Edit(
            STORE,
            "        self._disk.sync(segment)\n        self._active_bytes = end\n",
            "        self._active_bytes = end\n",
        ),
    ),
    Mutant(
        "mark-ignored",
        "damage below what was synced is cut off like a torn tail",
        Edit(SCAN, "torn = synced is not None and found.next_number > synced", "torn = True"),
        Edit(
            SCAN,
            "    if synced is not None and found.next_number <= synced:\n        found.verdict",
            "    if found.next_number < 0:\n        found.verdict",
        ),
    ),
    Mutant(
        "checksum-ignored",
        "a frame of the log counts whatever its checksum says",
        Edit(
            "consensus/frames.py",
            "if len(payload) != header.length or crc32c(payload) != header.checksum:",
            "if len(payload) != header.length:",
        ),
    ),
    Mutant(
        "snapshot-not-synced",
        "a snapshot is put into place before it is durable, and the log before it goes",
        Edit(
            "p2p/storage/snapshot_file.py",
            "self._disk.append(self._name, encode_frame(END, self._chunks + 1, end))\n",
            "self._disk.append_unsynced(self._name, encode_frame(END, self._chunks + 1, end))\n",
        ),
        Edit(
            "p2p/storage/snapshot_file.py",
            "        self._disk.sync(self._name)\n\n    def finish",
            "        return\n\n    def finish",
        ),
    ),
    Mutant(
        "install-not-noted",
        "the log does not say that it goes on from another peer's snapshot",
        Edit(
            STORE,
            "        self._base = (meta.index, meta.term)\n        self._drop_older(older)\n",
            "        self._drop_older(older)\n",
        ),
    ),
)

CLIENTS = (
    Mutant(
        "sessions-off",
        "a command that is sent again is applied again",
        Edit(
            "p2p/replicated/apply_sessions.py",
            "    if known is not None:\n        return state, known\n",
            '    if known is not None and "kind" in known:\n        return state, known\n',
        ),
        Edit(
            "p2p/requests.py",
            "    if known is not None:  # asked again",
            '    if known is not None and "kind" in known:  # asked again',
        ),
    ),
    Mutant(
        "read-at-once",
        "a read is answered from the local copy, without a barrier",
        Edit(HOST, "        self._barriers.ask(done)\n", "        done(True)\n"),
    ),
    Mutant(
        "read-before-applied",
        "a confirmed read is answered before the state has caught up",
        Edit(
            "p2p/read_barriers.py",
            "item.index is not None and item.index <= index",
            "item.index is not None",
        ),
    ),
)

PEER = (*DISK, *CLIENTS)
