"""The JSON of `p2pnode models`: what is served, from where, by whom. Pure."""

from typing import Any

from p2p.replicated.service import Service
from p2p.replicated.state import State
from p2p.view import SCHEMA


def models(state: State) -> dict[str, Any]:
    """All that are served now, by id."""
    served = [told for told in state.services.values() if not told.is_ended]
    ordered = sorted(served, key=lambda service: service.id)
    return {"schema": SCHEMA, "models": [_model(service, state) for service in ordered]}


def _model(service: Service, state: State) -> dict[str, Any]:
    return {
        "id": service.id,
        "name": service.name,
        "source": service.source,
        "state": service.state,
        "reason": service.reason,
        "replicas_min": service.replicas_min,
        "replicas_max": service.replicas_max,
        "target": service.target,
        "device": service.device,
        "revision": service.revision.number,
        "step": service.revision.step,
        "state_hash": service.revision.state_hash or None,
        "bytes": service.revision.bytes,
        "model": dict(service.model) or None,
        "replicas": [
            {
                "peer": replica.peer,
                "peer_name": _name(state, replica.peer),
                "replica": replica.child,
                "revision": replica.revision,
            }
            for replica in service.replicas
        ],
        "loading": sorted(set(service.assigned) - set(service.members)),
        "excluded": dict(service.excluded),
    }


def _name(state: State, peer: str) -> str:
    return state.members[peer].name if peer in state.members else peer
