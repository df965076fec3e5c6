"""What a peer asks of the files between peers, and the twin that tests run it on."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Source:
    """A peer that may have a file; `address` is HOST:PORT of its control socket."""

    peer: str
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """How a fetch ended: `path` of the whole, checked file, or the sentence why there is none.

    `wrong`: the peers whose file is another one, or damaged.
    """

    sha256: str
    path: Path | None
    problem: str = ""
    wrong: frozenset[str] = frozenset()


OnFetched = Callable[[Fetched], None]


class Content(Protocol):
    """All calls return at once; `then` is called later, by the event loop of the peer."""

    @property
    def port(self) -> int:
        """Where other peers ask for slices."""

    def find(self, sha256: str) -> Path | None:
        """The whole file, if this peer has it."""

    def fetch(self, sha256: str, size: int, sources: Sequence[Source], then: OnFetched) -> None:
        """Get the file of `size` bytes into DATA_DIR/content; asking again while it is on its way
        changes nothing. What was fetched before an end or a failure is not fetched again.
        """

    def cancel(self, sha256: str) -> None:
        """Stop fetching; `then` is not called any more."""

    def offer(self, sha256: str, path: Path) -> None:
        """Serve a file from where it lies."""

    def offer_tree(self, manifest: str, root: str) -> None:
        """Serve the files of a checked copy of the dataset with this manifest, which is here."""

    def withdraw_tree(self, manifest: str) -> None:
        """Serve them from there no more."""

    def put(self, data: bytes, then: OnFetched) -> None:
        """Keep these few bytes under their hash."""

    def drop(self, sha256: str) -> None:
        """Forget the offer and the copy."""

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """Of each file on its way: bytes here, bytes in all."""


@dataclass
class MemoryHub:
    """Files of all peers of a test by (peer, hash); what fetches there are waits for `deliver`."""

    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    waiting: list[Callable[[], None]] = field(default_factory=list)

    def deliver(self) -> int:
        """Let what was asked for happen; returns how much that was."""
        waiting, self.waiting = self.waiting, []
        for happen in waiting:
            happen()
        return len(waiting)


class MemoryContent:
    """The twin of one peer: a fetch succeeds if one of its sources has the file by then."""

    port = 1

    def __init__(self, hub: MemoryHub | None = None, peer: str = "") -> None:
        self.hub = hub or MemoryHub()
        self.peer = peer
        self.wanted: dict[str, OnFetched] = {}
        self.offered: dict[str, str] = {}  # roots by manifest

    def find(self, sha256: str) -> Path | None:
        return Path("/content", sha256) if (self.peer, sha256) in self.hub.files else None

    def fetch(self, sha256: str, size: int, sources: Sequence[Source], then: OnFetched) -> None:
        if sha256 in self.wanted:
            return
        self.wanted[sha256] = then

        def happen() -> None:
            if self.wanted.pop(sha256, None) is None:
                return
            for source in sources:
                data = self.hub.files.get((source.peer, sha256))
                if data is not None and len(data) == size:
                    self.hub.files[self.peer, sha256] = data
                    then(Fetched(sha256, self.find(sha256)))
                    return
            told = "; ".join(f"{source.name} does not have it" for source in sources)
            then(Fetched(sha256, None, told or "no peer that could have it is reachable"))

        self.hub.waiting.append(happen)

    def cancel(self, sha256: str) -> None:
        self.wanted.pop(sha256, None)

    def offer(self, sha256: str, path: Path) -> None:
        self.hub.files.setdefault((self.peer, sha256), b"")

    def offer_tree(self, manifest: str, root: str) -> None:
        self.offered[manifest] = root

    def withdraw_tree(self, manifest: str) -> None:
        self.offered.pop(manifest, None)

    def put(self, data: bytes, then: OnFetched) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        self.hub.files[self.peer, sha256] = data
        self.hub.waiting.append(lambda: then(Fetched(sha256, self.find(sha256))))

    def drop(self, sha256: str) -> None:
        self.hub.files.pop((self.peer, sha256), None)

    def progress(self) -> Mapping[str, tuple[int, int]]:
        return dict.fromkeys(self.wanted, (0, 1))
