"""A peer that nobody tells anything asks whether it is still a member."""

import asyncio
import dataclasses

import pytest

from p2p import membership
from p2p.errors import Refused, Unreachable
from p2p.membership import Membership
from p2p.storage.data_dir import Remembered
from p2p.storage.disk_memory import MemoryDisk
from p2p.wire.client_link import WrongKey
from p2p.wire.keys import ClusterKey
from tests.peer_fakes import CLUSTER
from tests.peer_twins import grown


@pytest.mark.parametrize("knows", [False, True])
def test_a_refusal_ends_it_unless_its_own_log_says_so_already(
    knows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it ends in order, by itself, as soon as nobody needs its vote."""
    cluster = grown(3)
    cluster.isolate("c")
    peer = cluster.twins["c"].peer
    cluster.until(lambda: not peer.raft.status.has_quorum_contact, "it hears nobody")
    if knows:
        peer.state = dataclasses.replace(peer.state, removed=frozenset({"c"}))
    stranger = WrongKey("a peer of another cluster listens where one of ours did")
    answers = [Unreachable("nobody"), stranger, Refused("removed"), Refused("removed")]

    class Asking(Membership):
        async def _ask_to_join(self) -> None:
            if answers:
                raise answers.pop(0)
            raise asyncio.CancelledError

    monkeypatch.setattr(membership, "LOST_S", 0.0)
    who = Remembered("c", "name-c", "127.0.0.1:7003", CLUSTER)

    async def main() -> None:
        asking = Asking(peer, who, MemoryDisk(), ClusterKey.fresh(), (), asyncio.Event())
        await asking.ask_while_lost()

    with pytest.raises(asyncio.CancelledError if knows else Refused):
        asyncio.run(main())
    assert len(answers) == (0 if knows else 1)
