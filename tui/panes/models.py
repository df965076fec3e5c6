"""The models that are served: by whom, with which weights, and how much they are asked."""

from collections.abc import Mapping, Sequence

from tui import health, text
from tui.pane import Box, Record, Table, untold
from tui.rows import badge
from tui.scene import Line, Scene
from tui.table import Column, Row
from tui.told import Model


class ModelsPane(Table[Model]):
    id = "models"
    word = "model"
    columns = (
        Column("state", "state", 12),
        Column("name", "model", 10, grow=1, width_max=24),
        Column("replicas", "replicas", 8),
        Column("on", "on", 12, grow=2, width_max=40, rank=3),
        Column("revision", "rev", 3, "right", rank=4),
        Column("step", "step", 7, "right", rank=1),
        Column("rate", "prompts/s", 9, "right"),
        Column("waiting", "waiting", 7, "right"),
        Column("tokens", "tokens/s", 8, "right", rank=2),
        Column("first", "first token", 11, "right", rank=5),
        Column("parameters", "parameters", 10, "right", rank=6),
        Column("source", "from", 12, grow=1, width_max=40, rank=7),
    )

    def all_items(self, scene: Scene) -> Sequence[Model]:
        return scene.told.models or ()

    def key(self, item: Model) -> str:
        return item.id

    def row(self, scene: Scene, item: Model, widths: Mapping[str, int]) -> Row:
        mark = health.job_mark(item.state)
        names = ", ".join(dict.fromkeys(name for _, name, _, _ in item.replicas))
        has = len(item.replicas)
        size = item.parameters
        first_s = max(figures(scene, item, "first_token_s"), default=None)
        return Row(
            item.id,
            {
                "state": [badge(mark, scene.ascii_only)],
                "name": [(item.name, "text")],
                "replicas": [(f"{has} of {item.target}", "text" if has else "warn")],
                "on": [(names or "–", "dim")],
                "revision": [(str(item.revision or "–"), "dim")],
                "step": [(text.count(item.step) if item.step else "–", "dim")],
                "rate": [(text.rate(sum(figures(scene, item, "requests_per_s"))), "text")],
                "waiting": [(text.count(sum(figures(scene, item, "waiting"))), "text")],
                "tokens": [(text.rate(sum(figures(scene, item, "tokens_per_s"))), "text")],
                "first": [(text.seconds(first_s), "dim")],
                "parameters": [(text.short_count(size) if size else "–", "dim")],
                "source": [(item.source, "dim")],
            },
        )

    def searched(self, scene: Scene, item: Model) -> str:
        return " ".join((item.id, item.name, item.state, item.source, item.reason))

    def place(self, scene: Scene, keys: Sequence[str]) -> int:
        model = scene.model
        return keys.index(model.id) if model is not None and model.id in keys else 0

    def empty(self, scene: Scene) -> str:
        if scene.status is None:
            return "no answer from a peer yet"
        if scene.told.models is None:
            return untold(scene, "models")
        return "nothing is served: M serves what a job trained, as does  p2pnode serve job:JOB"

    def title(self, scene: Scene, box: Box) -> tuple[str, Line]:
        return "models", [] if scene.told.models is None else self.counted(scene, box)

    def records(self, scene: Scene) -> list[Record]:
        return [
            {
                "id": model.id,
                "name": model.name,
                "state": model.state,
                "source": model.source,
                "replicas": [replica for _, _, replica, _ in model.replicas],
                "peers": [peer for peer, _, _, _ in model.replicas],
                "target": model.target,
                "revision": model.revision,
                "step": model.step,
                "requests_per_s": sum(figures(scene, model, "requests_per_s")),
                "waiting": sum(figures(scene, model, "waiting")),
            }
            for model in self.items(scene)
        ]


def figures(scene: Scene, model: Model, name: str) -> list[float]:
    """What the peers that are asked for it measured last."""
    wanted = f"serve.{model.id}.{name}"
    return [told[wanted] for told in scene.told.latest.values() if wanted in told]


MODELS = ModelsPane()
