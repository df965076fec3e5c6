"""The disk's in-memory twin, which can run full and can lose nothing else."""

from p2p.disk import DiskFailed


class MemoryDisk:
    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.capacity_bytes = capacity_bytes

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def append(self, name: str, data: bytes) -> None:
        self._put(name, self.files.get(name, b"") + data)

    def replace(self, name: str, data: bytes) -> None:
        self._put(name, data)

    def truncate(self, name: str, size_bytes: int) -> None:
        self.files[name] = self.files.get(name, b"")[:size_bytes]

    def names(self) -> list[str]:
        return sorted(self.files)

    def close(self) -> None:
        return

    def _put(self, name: str, data: bytes) -> None:
        others = sum(len(content) for key, content in self.files.items() if key != name)
        if self.capacity_bytes is not None and others + len(data) > self.capacity_bytes:
            raise DiskFailed(f"cannot write {name}: no space left; make room and start again")
        self.files[name] = data
