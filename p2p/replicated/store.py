"""The cluster's small key-value store, as an immutable map that can be read while it grows.

Every change makes a new Store that shares nearly all of its memory with the old one, so that a
snapshot can be written piece by piece while commands go on. Keys are spread over buckets by their
CRC32: the order of `items` is then the same in every process (Python's own hashes of strings are
not), no more than one bucket is ever sorted at once, and the garbage collector has no more to look
at than the buckets: plain dicts of texts and bytes do not concern it (a map in a map for each of
500,000 keys let it stop the peer for 370 ms now and then).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from zlib import crc32

from immutables import Map

KEY_CHARS_MAX = 256
VALUE_BYTES_MAX = 64 * 1024
STORE_BYTES_MAX = 256 * 1024 * 1024
# What a key costs beside its own bytes: else a store of tiny ones would fill the memory unseen.
KEY_OVERHEAD_BYTES = 100
# A put copies one bucket, and a copy touches every key and value in it. The order of a snapshot
# depends on it: another number is another format of p2p.replicated.wire.
BUCKETS = 16_384

Bucket = Mapping[str, bytes]  # never changed, only copied


@dataclass(frozen=True, slots=True)
class Store:
    """`size` counts the bytes of keys and values, and KEY_OVERHEAD_BYTES for each key."""

    buckets: Map[int, Bucket] = field(default_factory=Map)
    size: int = 0

    def get(self, key: str) -> bytes | None:
        bucket = self.buckets.get(_bucket_of(key))
        return None if bucket is None else bucket.get(key)

    def having(self, key: str, value: bytes | None) -> "Store":
        """With `key` set to `value`, or without it (None)."""
        number = _bucket_of(key)
        bucket = dict(self.buckets.get(number, _EMPTY))
        old = bucket.pop(key, None)
        size = self.size + _cost(key, value) - _cost(key, old)
        if value is not None:
            bucket[key] = value
        elif old is None:
            return self
        if bucket:
            return Store(self.buckets.set(number, bucket), size)
        return Store(self.buckets.delete(number), size)

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Lazily, in an order that depends on the keys alone."""
        for number in range(BUCKETS):
            bucket = self.buckets.get(number)
            if bucket is not None:
                yield from sorted(bucket.items())

    def __len__(self) -> int:
        return sum(map(len, self.buckets.values()))


_EMPTY: Bucket = {}


class StoreBuilder:
    """Makes a Store of what `Store.items` gave, in the same order, without the steps between."""

    def __init__(self) -> None:
        self._buckets = Map[int, Bucket]().mutate()
        self._number = -1
        self._bucket: dict[str, bytes] = {}
        self._last = ""
        self._size = 0

    def add(self, key: str, value: bytes) -> None:
        """Raises ValueError if it cannot be, or not come next."""
        problem = problem_with(key, value)
        if problem:
            raise ValueError(problem)
        number = _bucket_of(key)
        if (number, key) <= (self._number, self._last):
            raise ValueError(f"{key!r} does not come after {self._last!r}")
        if number != self._number:
            self._close()
        self._number, self._last = number, key
        self._bucket[key] = value
        self._size += _cost(key, value)

    def store(self) -> Store:
        self._close()
        return Store(self._buckets.finish(), self._size)

    def _close(self) -> None:
        if self._bucket:
            self._buckets[self._number] = self._bucket
            self._bucket = {}


def problem_with(key: object, value: object = b"") -> str | None:
    """Why this cannot be in the store, as a sentence; None if it can."""
    if not isinstance(key, str) or not 0 < len(key) <= KEY_CHARS_MAX:
        return f"a key is a text of 1 to {KEY_CHARS_MAX} characters"
    try:
        key.encode()
    except UnicodeEncodeError:
        return f"{key!r} is no key: it holds half a character"
    if not isinstance(value, bytes) or len(value) > VALUE_BYTES_MAX:
        return f"the value of {key!r} must be at most {VALUE_BYTES_MAX} bytes"
    return None


def _bucket_of(key: str) -> int:
    return crc32(key.encode()) % BUCKETS


def _cost(key: str, value: bytes | None) -> int:
    return 0 if value is None else len(key.encode()) + len(value) + KEY_OVERHEAD_BYTES
