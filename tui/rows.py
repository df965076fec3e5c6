"""The rows of the screen's lists: peers, jobs, events. Shared by the panes and by `--once`."""

from tui import health, text
from tui.health import Mark
from tui.scene import Line, Scene, Span
from tui.snapshot import Detail, Event, Job, Peer
from tui.table import Column, Row

PEER_COLUMNS = (
    Column("state", "state", 9),
    Column("role", "role", 9),
    Column("name", "name", 10, grow=1, width_max=26),
    Column("address", "address", 15, grow=1, width_max=21, rank=1),
    Column("slots", "slots", 5, "right", rank=4),
    Column("trainers", "train", 5, "right", rank=2),
    Column("rss", "rss", 5, "right", rank=3),
    Column("cpu", "cpu", 5, "right", rank=3),
    Column("pid", "pid", 8, "right", rank=6),
    Column("version", "version", 8, rank=7),
)
JOB_COLUMNS = (
    Column("state", "state", 12),
    Column("name", "job", 10, grow=1, width_max=24),
    Column("bar", "progress", 8, grow=2, width_max=40, rank=2),
    Column("step", "step", 13, "right"),
    Column("loss", "loss", 8, "right", rank=1),
    Column("accuracy", "acc", 6, "right", rank=1),
    Column("rate", "samp/s", 7, "right", rank=2),
    Column("generation", "gen", 3, "right", rank=5),
    Column("members", "peers", 5, "right", rank=4),
    Column("epoch", "epoch", 5, "right", rank=6),
    Column("hash", "weights", 12, rank=7),
)


def badge(mark: Mark, ascii_only: bool) -> Span:
    return (f"{mark.icon(ascii_only)} {mark.word}", mark.tone)


def bar(done: float | None, width: int, ascii_only: bool, tone: str = "ok") -> Line:
    """A progress bar of `width` cells; unknown progress is an empty one."""
    full, empty = ("#", ".") if ascii_only else ("━", "─")
    filled = 0 if done is None else max(int(done > 0), min(width, round(done * width)))
    return [(full * filled, tone), (empty * (width - filled), "line")]


def peer_row(peer: Peer, scene: Scene) -> Row:
    plain = scene.ascii_only
    role = health.role_mark(peer.role)
    here = scene.status is not None and peer.id == scene.status.view_from
    self_mark = " " + (health.SELF_PLAIN if plain else health.SELF_GLYPH)
    gone = peer.state in ("dead", "left")
    tone = "dim" if gone else "text"
    return Row(
        peer.id,
        {
            "state": [badge(health.peer_mark(peer.state), plain)],
            "role": [badge(role, plain)] if not gone else [(f"  {role.word}", "dim")],
            "name": [(peer.name, tone), (self_mark if here else "", "accent")],
            "address": [(peer.address, "dim")],
            "slots": [(str(peer.slots), tone)],
            "trainers": [(str(peer.trainers or "–"), tone if peer.trainers else "dim")],
            "rss": [(text.memory(peer.rss), tone)],
            "cpu": [("–" if gone else f"{peer.cpu_percent:.0f}%", tone)],
            "pid": [(str(peer.pid or "–"), "dim")],
            "version": [(peer.version, "dim")],
        },
    )


def job_row(job: Job, scene: Scene, bar_width: int) -> Row:
    mark = health.job_mark(job.state)
    total = f"/{text.count(job.steps_total) if job.steps_total else '?'}"
    tone = "dim" if job.is_final else "text"
    return Row(
        job.id,
        {
            "state": [badge(mark, scene.ascii_only)],
            "name": [(job.name, tone)],
            "bar": bar(job.done, bar_width, scene.ascii_only, mark.tone),
            "step": [(f"{job.step:,}{total if job.kind != 'serve' else ''}", tone)],
            "loss": [(text.number(job.loss), tone)],
            "accuracy": [(text.percent(job.accuracy), tone)],
            "rate": [(text.rate(job.samples_per_second), tone)],
            "generation": [(str(job.generation or "–"), "dim")],
            "members": [(str(len(job.members) or "–"), tone)],
            "epoch": [(str(job.epoch), "dim")],
            "hash": [(text.short_hash(job.state_hash), "dim")],
        },
    )


def event_line(event: Event, scene: Scene) -> Line:
    mark = health.event_mark(event.severity)
    quiet = event.severity == "info"
    return [
        (text.clock(event.at) + "  ", "faint"),
        (mark.icon(scene.ascii_only) + " ", mark.tone),
        (event.text or event.kind, "text" if quiet else mark.tone),
    ]


def detail_lines(scene: Scene, width: int) -> list[Line]:
    """The shown job in words, the most important first: what does not fit below is cut."""
    job, detail, status = scene.job, scene.detail, scene.status
    if job is None or status is None:
        return []
    mark = health.job_mark(job.state)
    done = f"{100 * job.done:3.0f}%" if job.done is not None else "  ?%"
    total = f" of {job.steps_total:,}" if job.steps_total else ""
    names = ", ".join(status.name_of(member) for member in job.members) or "none"
    lines: list[Line] = [
        [badge(mark, scene.ascii_only), (f"  {job.kind} {job.task}", "dim")],
        [*bar(job.done, width - 5, scene.ascii_only, mark.tone), (f" {done}", "text")],
        _pair("step", f"{job.step:,}{total}", f"epoch {job.epoch}"),
        _pair("loss", text.number(job.loss), f"accuracy {text.percent(job.accuracy)}"),
        _pair("speed", f"{text.rate(job.samples_per_second)} samp/s", _left(job)),
    ]
    if detail is not None and detail.generations:
        last = detail.generations[-1]
        stall = "" if last.stall_seconds is None else f"stall {text.seconds(last.stall_seconds)}"
        where = "" if last.start_step is None else f" at {last.start_step:,}"
        lines.append(_pair("change", f"gen {last.number}{where}", stall))
    else:
        lines.append(_pair("change", f"gen {job.generation}" if job.generation else "none yet"))
    lines.append(_pair("peers", names))
    if job.strategy:
        lines.append(_pair("method", f"{job.strategy} {job.codec}", _wire(detail)))
    lines.append(_pair("weights", text.short_hash(job.state_hash, 16)))
    lines.append(_pair("samples", text.count(job.samples)))
    if detail is not None and detail.repeated is not None:
        lines.append(_pair("ledger", f"{detail.repeated} repeated, {detail.missing} missing"))
    if detail is not None:
        lines.append(_pair("saved", text.plural(len(detail.checkpoints), "checkpoint")))
    reason = job.reason or (detail.generations[-1].reason if detail and detail.generations else "")
    if reason:
        tone = "bad" if job.state == "failed" else "warn" if job.state == "recovering" else "dim"
        wrapped: list[Line] = [[(line, tone)] for line in text.wrap(reason, width)]
        # A failure's reason is what the user came for: it goes before the numbers.
        at = 2 if job.state in ("failed", "queued", "recovering") else len(lines)
        lines[at:at] = wrapped
    return lines


def _wire(detail: Detail | None) -> str:
    """What goes over the wire in a step, and how much less that is than float32."""
    if detail is None or detail.bytes_per_step is None:
        return ""
    told = f"{text.memory(int(detail.bytes_per_step))} a step"
    return told if detail.compression is None else f"{told}, {detail.compression:.1f}x smaller"


def _left(job: Job) -> str:
    eta_s = job.eta_s() if job.state == "running" else None
    return "" if eta_s is None else f"{text.seconds(eta_s)} left"


def _pair(label: str, value: str, note: str = "") -> Line:
    return [(f"{label:<7} ", "faint"), (value, "text"), (f"  {note}" if note else "", "dim")]
