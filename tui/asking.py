"""Whether a prompt may be asked now, or why not. Pure."""

from tui import chat
from tui.pane import untold
from tui.scene import Scene
from tui.text import seconds


def is_alone(scene: Scene) -> str | None:
    """Why no peer could be asked for anything, as one sentence."""
    if scene.reel is not None:
        return "this is a recording: nobody answers in it"
    if scene.status is None or scene.snapshot.link.state != "live":
        return "not connected: nobody can be asked now"
    if scene.is_greyed:
        return "what is shown is stale: wait for the peer's next answer, or press r"
    return None


def cannot_ask(scene: Scene) -> str | None:
    """Why no model could be asked, as far as is known."""
    if (why := is_alone(scene)) is not None:
        return why
    if scene.told.models is None:
        return f"which models are served? {untold(scene, 'models')}"
    if scene.model is None:
        return "nothing is served: `p2pnode serve job:JOB` serves what a job trained"
    return None


def cannot_type(scene: Scene) -> str | None:
    """Why no prompt can be begun. Which models there are is asked for when the view is looked at,
    and need not be waited for.
    """
    return is_alone(scene) if scene.told.models is None else cannot_ask(scene)


def cannot_send(scene: Scene) -> str | None:
    """Why the next prompt has to wait."""
    if (why := cannot_ask(scene)) is not None:
        return why
    if scene.chat.open is not None:
        return "an answer is being given: esc stops it"
    if scene.read_only and (rests_s := chat.rests_s(scene.chat, scene.now_s)) > 0:
        return f"a read-only screen rests as long as an answer took: {seconds(rests_s)} more"
    return None
