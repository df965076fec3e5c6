"""The lines around the panes: header, banner and footer."""

from tui import health, text
from tui.actions import cannot_decide, propose
from tui.asking import cannot_type
from tui.keys import Key, footer_keys
from tui.layout import too_small
from tui.lines import LINES
from tui.proposal import Refusal
from tui.scene import Line, Scene, both_ends, cut_line, line_width
from tui.views.catalog import VIEWS, numbered, view_of

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


def tabs(scene: Scene, width: int) -> Line:
    """The views with their digits; the one that is shown is marked, a filter is named."""
    line: Line = []
    for title, tone in _tab_words(scene, width):
        line.append((title, tone))
    right: Line = []
    wanted = scene.filters.get(scene.view)
    if wanted:
        right.append((f" / {shortened(wanted)} ", "warn"))
    if scene.maximised:
        right.append((" large ", "warn"))
    return both_ends(line, right, width) if right else cut_line(line, width)


def tab_at(scene: Scene, width: int, x: int) -> int | None:
    """The digit of the view whose tab is at column `x`."""
    start = 0
    for (digit, _), (title, _) in zip(numbered(), _tab_words(scene, width), strict=True):
        if start <= x < start + len(title):
            return digit
        start += len(title)
    return None


def _tab_words(scene: Scene, width: int) -> Line:
    shown = view_of(scene)
    long = sum(len(view.title) + 4 for view in VIEWS) <= width
    open_alerts = len([one for one in scene.told.open_alerts if not one.acknowledged])
    words: Line = []
    for digit, view in numbered():
        title = view.title if long else view.short
        if view.name == "alerts" and open_alerts and long:
            title += f" {open_alerts}"
        bracket = ("[", "]") if view is shown else (" ", " ")
        tone = "strong" if view is shown else "warn" if title[-1].isdigit() else "dim"
        words.append((f"{bracket[0]}{digit} {title}{bracket[1]}", tone))
    return words


def reel(scene: Scene, width: int) -> Line:
    """Where a replayed recording stands, as a slider."""
    at = scene.reel
    if at is None:
        return []
    left: Line = [
        (f" {scene.pick('▶', '>') if at.is_playing else scene.pick('◫', '=')} ", "accent")
    ]
    left.append((f"replay {text.moment(at.at)} ", "strong"))
    right = f" {at.position + 1}/{at.total}  [ ] back, on  p play "
    room = max(8, width - line_width(left) - len(right) - 1)
    done = round((room - 1) * at.position / max(1, at.total - 1))
    track = (
        scene.pick("─", "-") * done,
        scene.pick("◆", "@"),
        scene.pick("─", "-") * (room - 1 - done),
    )
    return cut_line(
        [*left, (track[0], "ok"), (track[1], "strong"), (track[2], "line"), (right, "dim")], width
    )


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
    if key.action == "ask":
        return cannot_type(scene) is None
    if key.steers is None:
        return True
    stale = scene.is_greyed
    if key.steers in LINES:
        return cannot_decide(key.steers, scene.snapshot, scene.read_only, stale) is None
    made = propose(key.steers, scene.snapshot, scene.selection, scene.read_only, stale)
    return not isinstance(made, Refusal)
