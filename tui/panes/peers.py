"""The peers table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tui import health
from tui.pane import Box, Record, Table
from tui.rows import PEER_COLUMNS, peer_row
from tui.scene import Line, Scene
from tui.snapshot import Peer
from tui.table import Row


class PeersPane(Table[Peer]):
    id = "peers"
    word = "peer"
    columns = PEER_COLUMNS

    def all_items(self, scene: Scene) -> Sequence[Peer]:
        return scene.status.peers if scene.status else ()

    def key(self, item: Peer) -> str:
        return item.id

    def row(self, scene: Scene, item: Peer, widths: Mapping[str, int]) -> Row:
        return peer_row(item, scene)

    def searched(self, scene: Scene, item: Peer) -> str:
        return " ".join((item.id, item.name, item.address, item.host, item.role, item.state))

    def empty(self, scene: Scene) -> str:
        return "no answer from a peer yet" if scene.status is None else "no peers"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        if scene.status is None:
            return "peers", []
        counts: Line = []
        for state in ("suspect", "dead", "left"):
            number = sum(peer.state == state for peer in scene.status.peers)
            if number:
                counts += [(f"{number} {state}", health.peer_mark(state).tone), (", ", "dim")]
        return "peers", [*counts, *self.counted(scene, box)]

    def records(self, scene: Scene) -> list[Record]:
        return [asdict(peer) for peer in self.items(scene)]


PEERS = PeersPane()
