"""From one rank to another: any number of bytes, with a tag, in order within a tag."""

from collections import Counter

from collectives.errors import OutOfStep
from collectives.frames import Stream
from collectives.links import Links

CHUNK_BYTES = 1 << 20


class Messages:
    """A message travels as chunks that follow one another; the messages of different tags do not
    wait for one another."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._sent: Counter[tuple[int, int]] = Counter()  # messages, by rank and tag
        self._received: Counter[tuple[int, int]] = Counter()

    def send(self, to: int, data: memoryview, tag: int) -> None:
        self._sent[to, tag] += 1
        for index, at in enumerate(range(0, max(1, len(data)), CHUNK_BYTES)):
            header = self._links.header(
                *(Stream.MESSAGE, self._sent[to, tag], tag, len(data)), chunk=index
            )
            self._links.send(to, header, data[at : at + CHUNK_BYTES])

    def receive(self, source: int, out: memoryview | None, tag: int) -> memoryview:
        """Raises OutOfStep when the message has not the length of `out`."""
        self._received[source, tag] += 1
        grown = bytearray()
        got, total, index = 0, 1, 0
        while got < total:
            header, frame = self._links.take(Stream.MESSAGE, source, tag)
            total = header.total
            expected = (self._received[source, tag], index, min(CHUNK_BYTES, total - got))
            if (header.sequence, header.chunk, len(frame)) != expected:
                raise OutOfStep(f"data from rank {source} was lost on the way")
            if out is None:
                grown += frame.buffer
            elif total != len(out):
                raise OutOfStep(f"rank {source} sends {total} bytes, not {len(out)}")
            else:
                out[got : got + len(frame)] = frame.buffer
            got += len(frame)
            index += 1
        return memoryview(grown) if out is None else out

    def probe(self, tag: int, source: int | None) -> int | None:
        self._links.gather()
        ranks = self._links.others if source is None else (source,)
        return next((r for r in ranks if self._links.has(Stream.MESSAGE, r, tag)), None)
