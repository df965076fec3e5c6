"""The request `metrics`: what this peer measured, or the newest figures of all peers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from p2p.errors import Usage
from p2p.measure import told
from p2p.measure.catalog import find
from p2p.measure.history import KEPT, RESOLUTIONS_S

if TYPE_CHECKING:
    from p2p.peer import Peer

SCHEMA = 1
GLOBS_MAX = 64
GLOB_CHARACTERS_MAX = 200
POINTS_MAX = 10_000  # per answer: about 15 ms of a peer's time and 500 kB


def metrics(peer: Peer, args: Mapping[str, Any]) -> dict[str, Any]:
    """`latest` true: {peer: {name: last}} of all. Else series of this peer, as points of
    [unix time, least, greatest, mean, last].

    `names` = globs; `since` in unix seconds; `resolution` 1 or 10 seconds, without it the finest
    that reaches back so far. Whole series, up to POINTS_MAX: `left_off` names the others.
    """
    at = peer.parts.clock.unix_s()
    head = {"schema": SCHEMA, "view_from": peer.identity.id, "at": at}
    if args.get("latest") is True:
        newest = told.latest(peer.bulletins.vitals())
        mine = {peer.identity.id: {**newest.get(peer.identity.id, {}), **peer.measures.told()}}
        return {**head, "latest": dict(sorted({**newest, **mine}.items()))}
    globs, since = _globs(args.get("names")), _since(args.get("since"))
    ahead_s = round(at - peer.parts.clock.monotonic_s(), 3)
    resolution = _resolution(args.get("resolution"), at - since)
    series: dict[str, Any] = {}
    left_off: list[str] = []
    count = 0
    for name in peer.measures.histories.matching(globs):
        points = peer.measures.histories.points(name, resolution, since - ahead_s)
        if count and count + len(points) > POINTS_MAX:
            left_off.append(name)
            continue
        count += len(points)
        metric = find(name)
        series[name] = {
            "unit": metric.unit if metric else "",
            "points": [[at_s + ahead_s, *values] for at_s, *values in points],
        }
    head |= {"peer": peer.identity.id, "resolution": resolution}
    return {**head, "series": series, "left_off": left_off}


def ping(peer: Peer, args: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema": SCHEMA, "at": peer.parts.clock.unix_s()}


def _globs(value: Any) -> list[str]:
    globs = ["*"] if value is None else value
    if not isinstance(globs, list) or len(globs) > GLOBS_MAX:
        raise Usage(f"names is a list of at most {GLOBS_MAX} names, with * for anything")
    for glob in globs:
        if not isinstance(glob, str) or len(glob) > GLOB_CHARACTERS_MAX:
            raise Usage(f"{str(glob)[:60]!r} is no name of a metric")
    return globs


def _since(value: Any) -> float:
    if value is None:
        return 0.0
    if type(value) not in (int, float) or not math.isfinite(value):
        raise Usage("since is a time in seconds since 1970")
    return float(value)


def _resolution(value: Any, back_s: float) -> int:
    if value is None:
        return RESOLUTIONS_S[0] if back_s <= RESOLUTIONS_S[0] * KEPT[1] else RESOLUTIONS_S[-1]
    if value not in RESOLUTIONS_S or type(value) is not int:
        raise Usage(f"resolution is one of {', '.join(map(str, RESOLUTIONS_S))} seconds")
    return int(value)
