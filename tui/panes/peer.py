"""The selected peer in words: where, what it computes on, what it works at, how well it is."""

from tui import health, text
from tui.pane import Box, Drawn, Pane, plain_lines
from tui.rows import badge, bar
from tui.scene import Line, Scene
from tui.snapshot import Peer

WORST_PARTS = 4


class PeerPane(Pane):
    id = "peer"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        peer = self._peer(scene)
        return (peer.name if peer else "peer"), []

    def draw(self, scene: Scene, box: Box) -> list[Drawn]:
        peer = self._peer(scene)
        if peer is None:
            return plain_lines([[("no peer", "faint")]])
        lines: list[Line] = [
            [
                badge(health.peer_mark(peer.state), scene.ascii_only),
                ("  ", "text"),
                badge(health.role_mark(peer.role), scene.ascii_only),
            ],
            _pair("id", peer.id, f"version {peer.version}"),
            _pair("at", peer.address, f"{peer.host} pid {peer.pid}" if peer.pid else peer.host),
            _pair("slots", str(peer.slots), text.plural(peer.trainers, "trainer")),
            _pair("uses", text.memory(peer.rss), f"{peer.cpu_percent:.0f}% cpu"),
            *self._device(scene, peer, box.width),
            *self._jobs(scene, peer),
            *self._figures(scene, peer),
            *self._health(scene, peer, box.width),
        ]
        return plain_lines(lines)

    def _peer(self, scene: Scene) -> Peer | None:
        return scene.status.peer(scene.selection.peer) if scene.status else None

    def _device(self, scene: Scene, peer: Peer, width: int) -> list[Line]:
        told = scene.told.devices.get(peer.id)
        if told is None:
            return []
        if not told.gpus:
            return [_pair("device", told.device or "cpu", "no GPU")]
        lines: list[Line] = []
        for number, gpu in enumerate(told.gpus):
            used = f"{text.memory(gpu.memory_used)}/{text.memory(gpu.memory_total)}"
            busy = None if gpu.utilization is None else gpu.utilization / 100
            share = "–" if busy is None else f"{100 * busy:.0f}%"
            lines.append(_pair(f"gpu {number}", gpu.name, used))
            lines.append([*bar(busy, max(4, width - 8), scene.ascii_only), (f" {share}", "text")])
        return lines

    def _jobs(self, scene: Scene, peer: Peer) -> list[Line]:
        status = scene.status
        assert status is not None
        trains = [job for job in status.jobs if peer.id in job.members and not job.is_final]
        return [_pair("trains", job.name, f"step {job.step:,}") for job in trains]

    def _figures(self, scene: Scene, peer: Peer) -> list[Line]:
        latest = scene.told.latest.get(peer.id, {})
        lines: list[Line] = []
        trip, free = latest.get("link.worst_round_trip_s"), latest.get("system.disk_free_bytes")
        if trip is not None:
            lost = latest.get("link.worst_loss_percent", 0.0)
            lines.append(_pair("links", f"{1000 * trip:.1f} ms", f"{lost:.0f}% lost, the worst"))
        if free is not None:
            lines.append(_pair("disk", f"{text.memory(int(free))} free"))
        return lines

    def _health(self, scene: Scene, peer: Peer, width: int) -> list[Line]:
        score = scene.told.score_of(peer.id)
        if score is None:
            return []
        mark = health.score_mark(score.score)
        lines: list[Line] = [
            [("health  ", "faint"), (f"{mark.icon(scene.ascii_only)} {score.score:.0f}", mark.tone)]
        ]
        lost = sorted((part for part in score.parts if part.points < part.of), key=_least)
        for part in lost[:WORST_PARTS]:
            told = f"{part.points - part.of:+.0f} {part.name}: {part.why}"
            lines += [[(line, "dim")] for line in text.wrap(told, width)]
        return lines


def _least(part: object) -> float:
    return float(getattr(part, "points", 0.0)) - float(getattr(part, "of", 0.0))


def _pair(label: str, value: str, note: str = "") -> Line:
    return [(f"{label:<7} ", "faint"), (value, "text"), (f"  {note}" if note else "", "dim")]


PEER = PeerPane()
