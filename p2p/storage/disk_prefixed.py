"""Files whose names begin alike, seen as a folder of their own: a log that was set aside."""

from p2p.storage.disk import Disk


class Prefixed:
    """A Disk: `name` in it is `prefix` + `name` in the folder. close() leaves the folder open."""

    def __init__(self, folder: Disk, prefix: str) -> None:
        self._folder = folder
        self._prefix = prefix

    def read(self, name: str, offset: int = 0, count: int | None = None) -> bytes | None:
        return self._folder.read(self._prefix + name, offset, count)

    def size(self, name: str) -> int | None:
        return self._folder.size(self._prefix + name)

    def append(self, name: str, data: bytes) -> None:
        self._folder.append(self._prefix + name, data)

    def append_unsynced(self, name: str, data: bytes) -> None:
        self._folder.append_unsynced(self._prefix + name, data)

    def sync(self, name: str) -> None:
        self._folder.sync(self._prefix + name)

    def sync_names(self) -> None:
        self._folder.sync_names()

    def overwrite(self, name: str, offset: int, data: bytes) -> None:
        self._folder.overwrite(self._prefix + name, offset, data)

    def reserve(self, name: str, size_bytes: int) -> int:
        return self._folder.reserve(self._prefix + name, size_bytes)

    def replace(self, name: str, data: bytes) -> None:
        self._folder.replace(self._prefix + name, data)

    def rename(self, old: str, new: str) -> None:
        self._folder.rename(self._prefix + old, self._prefix + new)

    def truncate(self, name: str, size_bytes: int) -> None:
        self._folder.truncate(self._prefix + name, size_bytes)

    def remove(self, name: str) -> None:
        self._folder.remove(self._prefix + name)

    def names(self) -> list[str]:
        mine = [name for name in self._folder.names() if name.startswith(self._prefix)]
        return [name.removeprefix(self._prefix) for name in mine]

    def close(self) -> None:
        pass
