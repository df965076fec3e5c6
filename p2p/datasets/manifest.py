"""What a dataset consists of: names, sizes and hashes of its files, as bytes with a hash. Pure.

Text, a line per file, sorted by name, so that equal datasets have equal manifests everywhere:

    p2p-manifest 1 folder
    <sha256> <bytes> <relative name>
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from p2p.content.messages import is_sha256
from p2p.errors import Usage

VERSION = "p2p-manifest 1"
FILES_MAX = 50_000
NAME_BYTES_MAX = 1_024
PART_BYTES_MAX = 255  # what file systems allow between two slashes

Kind = Literal["file", "folder"]


@dataclass(frozen=True, slots=True)
class File:
    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`kind` is "file" if the dataset is one file and not a folder that has one."""

    kind: Kind
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


def check_name(name: str) -> None:
    """Raises Usage unless it names a file below the folder, on any file system."""
    parts = name.split("/")
    encoded = name.encode(errors="surrogateescape")
    if any(part in ("", ".", "..") for part in parts):
        raise Usage(f"{name!r} is not the name of a file inside a dataset")
    if len(encoded) > NAME_BYTES_MAX or any(
        len(part.encode(errors="surrogateescape")) > PART_BYTES_MAX for part in parts
    ):
        raise Usage(f"the name {name[:60]!r}… is too long for a dataset: {len(encoded)} bytes")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Usage(f"the name {name!r} is not UTF-8: rename the file") from None
    if not name.isprintable():
        raise Usage(f"the name {name!r} has control characters: rename the file")


def made_of(kind: Kind, files: Sequence[File]) -> Manifest:
    """Sorted and checked. Raises Usage."""
    ordered = tuple(sorted(files, key=lambda file: file.name))
    for file in ordered:
        check_name(file.name)
        if not is_sha256(file.sha256) or file.size < 0:
            raise Usage(f"the manifest's line of {file.name!r} is wrong")
    names = {file.name for file in ordered}
    if len(names) != len(ordered):
        raise Usage("a file comes twice in the manifest")
    for name in names:
        at = name.find("/")
        while at >= 0:
            if name[:at] in names:
                raise Usage(f"{name[:at]!r} is a file and a folder in the manifest")
            at = name.find("/", at + 1)
    if not 0 < len(ordered) <= FILES_MAX:
        raise Usage(f"a dataset has 1 to {FILES_MAX} files, this one {len(ordered)}: pack them")
    if kind == "file" and len(ordered) != 1:
        raise Usage("a dataset that is one file has one file")
    return Manifest(kind, ordered)


def to_bytes(manifest: Manifest) -> bytes:
    lines = [f"{file.sha256} {file.size} {file.name}\n" for file in manifest.files]
    return "".join([f"{VERSION} {manifest.kind}\n", *lines]).encode()


def from_bytes(data: bytes) -> Manifest:
    """Raises Usage for what is no manifest, or names what must not be named."""
    try:
        head, *lines = data.decode().removesuffix("\n").split("\n")
        version, _, kind = head.rpartition(" ")
        if version != VERSION or kind not in ("file", "folder"):
            raise ValueError(head[:40])
        files = []
        for line in lines:
            sha256, size, name = line.split(" ", 2)
            files.append(File(name, int(size), sha256))
    except ValueError as error:
        raise Usage(f"that is no manifest of a dataset: {error}") from error
    return made_of("file" if kind == "file" else "folder", files)
