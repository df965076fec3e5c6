"""Prompt: the models that are served, and a conversation with one of them."""

from tui.layout import Area, Placed, down, share
from tui.panes.models import MODELS
from tui.panes.talk import ASKING, talk
from tui.scene import Scene
from tui.views.view import View


def place(scene: Scene, area: Area) -> list[Placed]:
    models = share(3, 2 + max(1, len(scene.told.models or ())), max(3, area.height // 4))
    return down(area, (MODELS, models), (talk(area.width - 2), 0), (ASKING, 1))


NAME = "prompt"
VIEW = View(
    name=NAME,
    title="Prompt",
    short="Ask",
    summary="the models that are served; ask one (enter), its answer as it comes",
    place=place,
    needs=frozenset({"models", "latest"}),
)
