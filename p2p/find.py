"""What people call a peer or a job, looked up in the state. Pure."""

from p2p.errors import Usage
from p2p.replicated.service import Service
from p2p.replicated.state import Dataset, Job, Member, State


def find_member(state: State, text: str) -> Member:
    """A peer by id, name, address, or a unique beginning of its id. Raises Usage."""
    members = state.members.values()
    exact = [told for told in members if text in (told.id, told.name, told.address)]
    close = [told for told in members if text and told.id.startswith(text)]
    found = exact or close
    if len(found) == 1:
        return found[0]
    known = ", ".join(sorted(told.name for told in members))
    problem = "is not unique" if found else "is not a peer of this cluster"
    raise Usage(f"{text!r} {problem}: there are {known}")


def find_job(state: State, text: str) -> Job:
    """A job by id, or the newest of that name. Raises Usage."""
    jobs = [job for job in state.jobs.values() if text in (job.id, job.name)]
    if jobs:
        return jobs[-1]
    service = serve_job(state, text)
    if service is not None and not service.is_ended:
        raise Usage(f"{text} is served, not trained: `p2pnode unserve {text}` ends it")
    raise Usage(f"there is no job {text!r}: `p2pnode jobs` lists them")


def find_dataset(state: State, name: str) -> Dataset:
    """A dataset by name. Raises Usage."""
    if name in state.datasets:
        return state.datasets[name]
    known = ", ".join(sorted(state.datasets)) or "none yet: `p2pnode data register NAME PATH`"
    raise Usage(f"there is no dataset {name[:100]!r}: there are {known}")


def find_service(state: State, text: str | None) -> Service:
    """A served model by id or name, or the only one for None. Raises Usage."""
    served = [service for service in state.services.values() if not service.is_ended]
    found = [service for service in served if text in (None, service.id, service.name)]
    if len(found) == 1:
        return found[0]
    if not served:
        raise Usage("no model is served: `p2pnode serve job:JOB` serves what a job trained")
    known = ", ".join(sorted(service.name for service in served))
    if text is None:
        raise Usage(f"say which model: there are {known}")
    raise Usage(f"no model {text[:100]!r} is served: there are {known}")


def serve_job(state: State, text: str) -> Service | None:
    """The serve job with this id, or served under this name where no train job has it."""
    if text in state.services:
        return state.services[text]
    if any(text in (job.id, job.name) for job in state.jobs.values()):
        return None
    named = [told for told in state.services.values() if told.name == text]
    return named[-1] if named else None
