"""The lines around the panes: header, banner and footer."""

from tui import health, text
from tui.actions import Refusal, propose
from tui.keys import Key, footer_keys
from tui.layout import too_small
from tui.scene import Line, Scene, both_ends, line_width

NAME_WIDTH_MAX = 18


def header(scene: Scene, width: int) -> Line:
    """Which cluster, who leads, is there a quorum – and how fresh all of this is."""
    status, plain = scene.status, scene.ascii_only
    left: Line = [(" p2p ", "accent")]
    right: Line = []
    if status is not None:
        alive, total = health.voters(status)
        leader = shortened(status.name_of(status.cluster.leader))
        star = health.role_mark("leader").icon(plain)
        running = sum(not job.is_final for job in status.jobs)
        left += [
            (f" {shortened(status.cluster.name)}", "strong"),
            (f"   {star} ", "strong"),
            (leader, "text" if status.cluster.leader else "bad"),
            (f"   term {status.cluster.term}", "dim"),
            ("   quorum ", "dim"),
            (f"{alive}/{total}", "ok" if status.cluster.quorum else "bad"),
        ]
        if width >= 110:
            left += [("   jobs ", "dim"), (f"{running} active, {len(status.jobs)} in all", "text")]
        if width >= 140:
            left += [("   log ", "dim"), (f"{status.cluster.applied_index:,}", "text")]
        self_mark = health.SELF_PLAIN if plain else health.SELF_GLYPH
        right += [
            (f"  {self_mark} ", "accent"),
            (shortened(status.name_of(status.view_from)), "text"),
        ]
        if width >= 100:
            right += [(f" {scene.snapshot.link.address}", "dim")]
    if scene.read_only:
        right += [("  READ-ONLY", "warn")]
    if scene.frozen:
        right += [("  FROZEN", "warn")]
    mark = health.link_mark(scene.snapshot.link, scene.age_s, scene.interval_s)
    age = scene.age_s
    right += [(f"  {mark.icon(plain)} {mark.word}", mark.tone)]
    if age is not None and age >= 1.5 * scene.interval_s:
        right += [(f" {text.seconds(age)} old", mark.tone)]
    right += [(" ", "text")]
    return both_ends(left, right, width)


def shortened(name: str) -> str:
    """A name as the header shows it: no one name may push out the rest."""
    return text.fit(name, NAME_WIDTH_MAX) if text.width_of(name) > NAME_WIDTH_MAX else name


def banner(scene: Scene, width: int) -> str | None:
    """What is wrong with the view as a whole, None if nothing is."""
    link, status = scene.snapshot.link, scene.status
    if link.state != "live":
        if link.attempt == 0:
            return f" connecting to {link.address or 'a peer'} "
        wait = max(0.0, link.retry_at_s - scene.now_s)
        verb = "reconnecting to" if link.received_at else "connecting to"
        parts = [f"{verb} {link.address or 'a peer'}: attempt {link.attempt}, next in {wait:.0f} s"]
        if link.received_at is not None:
            parts.append(f"data from {text.clock(link.received_at)}")
        parts += [link.error, "r: try now"]
        return " " + " – ".join(part for part in parts if part)
    if status is not None and not status.cluster.quorum:
        alive, total = health.voters(status)
        return (
            f" NO QUORUM: {alive} of {total} voters alive, {health.majority(total)} needed – "
            "nothing is decided, jobs wait; bring a peer back"
        )
    return None


def footer(scene: Scene, width: int, height: int) -> Line:
    """The keys that matter most; those that can do nothing now are grey."""
    line: Line = [(" ", "text")]
    for key in footer_keys():
        usable = is_usable(key, scene) and not (key.steers and too_small(width, height))
        made: Line = [(key.shown, "accent" if usable else "faint")]
        made += [(f" {key.label}  ", "text" if usable else "faint")]
        if line_width(line) + line_width(made) > width + 1:
            break
        line += made
    return line


def is_usable(key: Key, scene: Scene) -> bool:
    """Would the key do something now? (Asking is allowed where the answer needs a dialogue.)"""
    if key.steers is None:
        return True
    if key.steers == "submit":
        return not scene.read_only and scene.snapshot.link.state == "live"
    made = propose(key.steers, scene.snapshot, scene.selection, scene.read_only)
    return not isinstance(made, Refusal)
