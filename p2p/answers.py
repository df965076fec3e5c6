"""Requests that a peer answers by itself: from its copy of the state, or about its own process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from p2p import data_view, view
from p2p.checkpoints.restoring import checkpoint_of
from p2p.datasets.builtin import is_builtin
from p2p.errors import NoQuorum, P2PError, Usage
from p2p.find import find_job, find_member, serve_job
from p2p.measure import asked
from p2p.replicated.apply_data import PATH_CHARACTERS_MAX
from p2p.services import view as services_view

if TYPE_CHECKING:
    from p2p.peer import Peer

Args = Mapping[str, Any]
Verb = Callable[["Peer", Args], dict[str, Any]]
ADD_MAX = 16
READ_BYTES_MAX = 4 * 1024 * 1024  # of a checkpoint, at once: about 1 ms
PREVIEW_MAX = 1_000


def _status(peer: Peer, args: Args) -> dict[str, Any]:
    return view.status(peer.state, peer.raft_view(), peer.bulletins.vitals())


def _peers(peer: Peer, args: Args) -> dict[str, Any]:
    vitals = peer.bulletins.vitals()
    rows = view.with_devices(view.peers(peer.state, peer.raft_view(), vitals), vitals)
    return {"schema": view.SCHEMA, "peers": rows}


def _jobs(peer: Peer, args: Args) -> dict[str, Any]:
    return {"schema": view.SCHEMA, "jobs": view.jobs(peer.state, peer.bulletins.vitals())}


def _job(peer: Peer, args: Args) -> dict[str, Any]:
    service = serve_job(peer.state, str(args["job"]))
    if service is not None:
        return view.service_detail(service)
    return view.job_detail(find_job(peer.state, str(args["job"])), peer.bulletins.vitals())


def _history(peer: Peer, args: Args) -> dict[str, Any]:
    return view.history(find_job(peer.state, str(args["job"])))


def _events(peer: Peer, args: Args) -> dict[str, Any]:
    wanted = view.Wanted(
        since=int(args.get("since", 0)),
        level=str(args.get("level") or "info"),
        peer=_named(args, "peer"),
        job=_named(args, "job"),
        text=_named(args, "text"),
    )
    return view.events(peer.state, wanted)


def _named(args: Args, name: str) -> str | None:
    return None if args.get(name) is None else str(args[name])


def _alerts(peer: Peer, args: Args) -> dict[str, Any]:
    return {"schema": view.SCHEMA, "view_from": peer.identity.id, "alerts": peer.watch.alerts()}


def _insights(peer: Peer, args: Args) -> dict[str, Any]:
    return {"schema": view.SCHEMA, "view_from": peer.identity.id, **peer.watch.insights()}


def _health(peer: Peer, args: Args) -> dict[str, Any]:
    return {"schema": view.SCHEMA, "view_from": peer.identity.id, **peer.watch.health()}


def _stats(peer: Peer, args: Args) -> dict[str, Any]:
    """What this peer did since its start, for benchmarks and the curious."""
    return {
        "schema": view.SCHEMA,
        "leads": peer.raft.is_leader,
        "first_index": peer.raft.status.first_index,
        "applied_index": peer.raft.applied,
        "syncs": peer.raft.syncs,
        "dropped_messages": peer.mail.dropped,
        **asdict(peer.mail.traffic),
    }


def _data(peer: Peer, args: Args) -> dict[str, Any]:
    """The datasets that the cluster knows, and what this peer has of them."""
    standing = {name: peer.data.standing(told) for name, told in peer.state.datasets.items()}
    return {"view_from": peer.identity.id, **data_view.datasets(peer.state, standing)}


def _data_scan(peer: Peer, args: Args) -> dict[str, Any]:
    """What there is at a path of this peer's machine: ask again until it has been read."""
    where, format_ = str(args["where"]), args.get("format")
    if len(where) > PATH_CHARACTERS_MAX or not (where.startswith("/") or is_builtin(where)):
        raise Usage(f"{where[:100]!r} is no absolute path")
    told = peer.data.scan(where, None if format_ is None else str(format_))
    return {"schema": view.SCHEMA, "peer": peer.identity.id, "found": told and dict(told)}


def _data_preview(peer: Peer, args: Args) -> dict[str, Any]:
    """The first samples of a dataset: ask again until they have been read."""
    limit = int(args.get("limit", 8))
    if not 1 <= limit <= PREVIEW_MAX:
        raise Usage(f"a preview shows 1 to {PREVIEW_MAX} samples")
    told = peer.data.preview(peer.state, str(args["name"]), limit)
    return {"schema": view.SCHEMA, "name": str(args["name"]), "found": told and dict(told)}


def _data_shards(peer: Peer, args: Args) -> dict[str, Any]:
    job = find_job(peer.state, str(args["job"]))
    return data_view.shards(peer.state, job, peer.bulletins.vitals())


def _models(peer: Peer, args: Args) -> dict[str, Any]:
    return services_view.models(peer.state)


def _model_scan(peer: Peer, args: Args) -> dict[str, Any]:
    """The weights at a path of this peer's machine: ask again until they have been hashed."""
    where = str(args["where"])
    if len(where) > PATH_CHARACTERS_MAX or not where.startswith("/"):
        raise Usage(f"{where[:100]!r} is no absolute path")
    told = peer.data.scan_model(where, args.get("whole") is True)
    return {"schema": view.SCHEMA, "peer": peer.identity.id, "found": told and dict(told)}


def _content(peer: Peer, args: Args) -> dict[str, Any]:
    """Where this peer gives its files to others (p2p.content)."""
    return {"schema": view.SCHEMA, "port": peer.parts.content.port}


def _add(peer: Peer, args: Args) -> dict[str, Any]:
    count = int(args.get("count", 1))
    if not 1 <= count <= ADD_MAX:
        raise Usage(f"add takes 1 to {ADD_MAX} peers at a time")
    if peer.raft.status.leader is None:  # they could not get in
        raise NoQuorum(peer.requests.no_leader())
    try:
        return {"schema": view.SCHEMA, "pids": peer.parts.start_peers(count)}
    except OSError as error:
        raise P2PError(f"cannot start another peer here: {error}") from error


def _transfer(peer: Peer, args: Args) -> dict[str, Any]:
    target = find_member(peer.state, str(args["peer"]))
    if target.id == peer.raft.status.leader:
        return {"schema": view.SCHEMA, "leader": target.id}
    if target.id not in peer.raft.status.voters:
        raise P2PError(f"{target.name} is a learner and cannot lead: it has no vote")
    peer.raft.transfer(target.id)
    return {"schema": view.SCHEMA, "leader": target.id}


# -- done by the peer that is named ------------------------------------------------------------


def _checkpoint_read(peer: Peer, args: Args) -> dict[str, Any]:
    """Bytes of a part of a checkpoint that lies here, as the log says."""
    job, offset, count = find_job(peer.state, str(args["job"])), args["offset"], args["count"]
    made, me = checkpoint_of(job, args["step"]), peer.identity.id
    paths = [p.path for p in made.parts if (p.number, p.peer) == (args["number"], me)]
    if not paths or not 0 < count <= READ_BYTES_MAX or offset < 0:
        raise Usage(f"{peer.identity.member['name']} has no such part of that checkpoint")
    return {"schema": view.SCHEMA, "data": peer.desk.shelf.read(paths[0], offset, count)}


LOCAL: dict[str, Verb] = {
    "status": _status,
    "peers": _peers,
    "jobs": _jobs,
    "job": _job,
    "history": _history,
    "events": _events,
    "alerts": _alerts,
    "health": _health,
    "insights": _insights,
    "stats": _stats,
    "ping": asked.ping,
    "content": _content,
    "models": _models,
    "model_scan": _model_scan,
    "data": _data,
    "data_scan": _data_scan,
    "data_preview": _data_preview,
    "data_shards": _data_shards,
    "add": _add,
    "transfer": _transfer,
}
# About this peer's own process, or that of another if one is named.
ABOUT_ITSELF: dict[str, Verb] = {"metrics": asked.metrics}
DIRECTED: dict[str, Verb] = {
    "checkpoint_read": _checkpoint_read,
    **ABOUT_ITSELF,
}
