"""What is agreed of a serve job: which weights, on which peers, and who can answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ServiceState = Literal["queued", "starting", "running", "recovering", "failed", "cancelled"]
ENDED = frozenset({"failed", "cancelled"})
ENDED_MAX = 50  # that are remembered
REPLICAS_MAX = 256
FILES_MAX = 4_096
DEVICES = ("auto", "cpu", "cuda")
JOB, FOLDER = "job:", "hf:"  # what a source of weights that is no path begins with


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model on the disk of `peer`. Several peers may have the same `name`."""

    name: str
    sha256: str
    bytes: int
    peer: str
    path: str


@dataclass(frozen=True, slots=True)
class Revision:
    """Weights that a service loads; a later `number` replaces them. Number 0: none yet."""

    number: int = 0
    step: int = 0  # of the job that trained them, if one did
    state_hash: str = ""
    files: tuple[ModelFile, ...] = ()

    @property
    def sizes(self) -> dict[str, tuple[str, int]]:
        """SHA-256 and bytes of each file, by name, in a fixed order."""
        return {each.name: (each.sha256, each.bytes) for each in sorted(self.files, key=_name)}

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.sizes.values())


def _name(file: ModelFile) -> str:
    return file.name


@dataclass(frozen=True, slots=True)
class Replica:
    """A child that can answer, with the weights of this revision. `digest`: of these, and of the
    way in which it computes with them; "" where an older version did not say.
    """

    peer: str
    child: str
    revision: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """`source` as the user said it. `job` is what a trainer gets of the job that trained it, None
    for a Hugging Face folder. `follows`: the job whose newer checkpoints are rolled out.
    """

    id: str
    name: str
    source: str
    replicas_min: int
    replicas_max: int
    device: str = "auto"
    job: Mapping[str, Any] | None = None
    follows: str | None = None
    state: ServiceState = "queued"
    reason: str = ""
    target: int = 1  # how many replicas there shall be now
    # The revision that each peer's replica shall have, and the peers set aside with the reason.
    assigned: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)  # what the last replica said of it
    crashed: Mapping[str, str] = field(default_factory=dict)  # by peer, the last replica told of
    revision: Revision = field(default_factory=Revision)
    replicas: tuple[Replica, ...] = ()

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED

    @property
    def members(self) -> tuple[str, ...]:
        """The peers whose replicas can answer."""
        return tuple(dict.fromkeys(replica.peer for replica in self.replicas))
