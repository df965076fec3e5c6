"""The files of the models that this peer's replicas load: fetched, kept while wanted, let go."""

from collections.abc import Callable, Mapping

from p2p.fetching import Fetching
from p2p.replicas.agent import Files
from p2p.replicated.service import Revision, Service
from p2p.replicated.state import State
from p2p.serving.messages import Load

FETCH_FAILURES_MAX = 6


class ModelFiles:
    """`found`: by service and revision, where each file is, or why they cannot be had. `gather`
    puts files under their names into a folder.
    """

    def __init__(
        self,
        fetching: Fetching,
        source_dir: str,
        gather: Callable[[str, Mapping[str, str]], None],
    ) -> None:
        self._fetching = fetching
        self._source_dir = source_dir
        self._gather = gather
        self._fetched: dict[str, None] = {}  # hashes of files that were not here before
        self.found: dict[tuple[str, int], Files] = {}

    def fetch(self, state: State, service: Service) -> bool:
        """Whether all are here now. Asked again and again until they are found or cannot be."""
        paths, key = [], (service.id, service.revision.number)
        for name, (sha256, size) in service.revision.sizes.items():
            holders = [file.peer for file in service.revision.files if file.name == name]
            path = self._fetching.want(state, sha256, size, [*holders, *service.members])
            if path is not None:
                paths.append(str(path))
                continue
            self._fetched[sha256] = None
            if self._fetching.failures(sha256) >= FETCH_FAILURES_MAX:
                problem = f"cannot get its weights: {self._fetching.problem(sha256)}"
                self.found[key] = Files(problem=problem)
        if len(paths) < len(service.revision.sizes):
            return False
        self.found[key] = Files(tuple(paths))
        return True

    def load(self, service: Service, paths: tuple[str, ...], gpu: str | None) -> Load:
        """What a replica of it is told. Raises OSError."""
        if service.job is not None:
            told = (service.name, gpu, service.job)
            return Load(*told, source_dir=self._source_dir, weights=paths)
        folder = f"{self._source_dir}/{service.id}-{service.revision.number}"
        self._gather(folder, dict(zip(service.revision.sizes, paths, strict=True)))
        return Load(service.name, gpu, folder=folder)

    def keep(self, here: Mapping[str, Revision]) -> None:
        """No others than these, by service."""
        for service, number in list(self.found):
            if service not in here or here[service].number != number:
                del self.found[service, number]
        if self._fetched:
            used = {sha for revision in here.values() for sha, _ in revision.sizes.values()}
            for sha256 in [sha for sha in self._fetched if sha not in used]:
                del self._fetched[sha256]
                self._fetching.forget(sha256)
