"""Mutants of p2p/."""

from tools.sim.mutants.mutant import Mutant

PEER: tuple[Mutant, ...] = (
    Mutant(
        "answer-before-sync",
        "p2p/raft_host.py",
        "                self._send_all(ready.messages_now)\n",
        "                self._send_all(ready.messages_now + ready.messages_after)\n",
        "votes and acknowledgements leave before they are durable",
    ),
)
