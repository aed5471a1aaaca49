"""One large body on its way: cut into chunks by its sender, put together by its receiver.

Rules (spec 14):

* A chunk has the size that the manifest says, but for the last, and is never copied to be sent.
* Every chunk tells the CRC-32 of the body up to its end, so that what was put together is what
  was sent, and a transfer that goes on after a loss needs no more than the number of a chunk.
* The receiver asks, and the sender sends nothing that it was not asked for.
* Memory for a part is had when its first byte is there, and not because somebody promised it.
"""

from __future__ import annotations

import mmap
import zlib
from bisect import bisect_right
from itertools import accumulate

from zbus.errors import Damaged, Overloaded
from zbus.protocol.limits import CHUNK_MAX_BYTES, FRAMES_MAX, INLINE_MAX_BYTES
from zbus.protocol.message import Accept, Chunk, Frames, Manifest, Request

__all__ = ["InStream", "OutStream"]

_EDGE_BYTES = 4_096
_HUGE_BYTES = 4_194_304
"""Memory for so much is had in large pages, where the system has such."""


class OutStream:
    """A large body at its sender. ``next`` is the chunk to be sent next, and every chunk below
    ``acked`` is known to have arrived."""

    def __init__(self, body: bytes, frames: Frames, chunk_max: int) -> None:
        self._parts = tuple(memoryview(part) for part in (body, *frames))
        sizes = tuple(len(part) for part in self._parts)
        chunk = max(1, min(chunk_max, CHUNK_MAX_BYTES))
        self.manifest = Manifest(chunk, sizes, _edges(self._parts))
        self.size = sum(sizes)
        self.next = 0
        self.acked = 0
        self._count = -(-self.size // self.manifest.chunk)
        self._starts = [0, *accumulate(sizes[:-1])]
        self._checks = [0]
        self._limit = 0

    @property
    def flying(self) -> int:
        """Chunks that were sent, and are not known to have arrived."""
        return self.next - self.acked

    @property
    def is_ready(self) -> bool:
        """Whether a chunk may be sent now."""
        return self.next < self._limit and self.next < self._count

    @property
    def arrived_bytes(self) -> int:
        """What is known to have arrived."""
        return min(self.acked * self.manifest.chunk, self.size)

    def accepted(self, item: Accept) -> None:
        """The receiver says what it has, and how much more may come. It cannot have what was
        never sent."""
        if item.next >= len(self._checks):
            return
        self.acked = item.next
        if item.rewind or self.next < item.next:
            self.next = item.next
        self._limit = item.next + item.window

    def detached(self) -> None:
        """What is under way may be lost: nothing is sent until the receiver asks again."""
        self.next = self.acked
        self._limit = 0

    def take(self) -> tuple[int, int, Frames]:
        """The next chunk: its number, its check and its frames."""
        index, pieces = self.next, self._pieces(self.next * self.manifest.chunk)
        if index + 1 == len(self._checks):
            check = self._checks[index]
            for piece in pieces:
                check = zlib.crc32(piece, check)
            self._checks.append(check)
        self.next = index + 1
        return index, self._checks[index + 1], pieces

    def _pieces(self, start: int) -> Frames:
        end = min(start + self.manifest.chunk, self.size)
        at = bisect_right(self._starts, start) - 1
        pieces: list[memoryview] = []
        while start < end:
            offset = start - self._starts[at]
            piece = self._parts[at][offset : offset + end - start]
            if len(piece):
                pieces.append(piece)
            start += len(piece)
            at += 1
        return tuple(pieces) if len(pieces) <= FRAMES_MAX else (b"".join(pieces),)


class InStream:
    """A large body at its receiver. ``next`` is the only chunk that it takes. ``request`` is
    what the body belongs to, where it is the argument of one, to be begun by ``deadline``."""

    def __init__(self, manifest: Manifest, request: Request | None, deadline: float) -> None:
        self.manifest = manifest
        self.request = request
        self.deadline = deadline
        self.size = sum(manifest.parts)
        self.next = 0
        self.rewound = False
        """Whether the sender was asked to go back, and has not come to ``next`` since."""
        self._check = 0
        self._rooms: list[memoryview] = []
        self._free = memoryview(b"")

    @property
    def is_whole(self) -> bool:
        """Whether everything has arrived."""
        return self.next * self.manifest.chunk >= self.size

    @property
    def arrived_bytes(self) -> int:
        """How much has arrived."""
        return min(self.next * self.manifest.chunk, self.size)

    def write(self, item: Chunk, frames: Frames) -> None:
        """The chunk ``next`` has come.

        Raises:
            Damaged: it is not what was sent.
            Overloaded: this process has no memory for it.
        """
        expected = min(self.manifest.chunk, self.size - self.arrived_bytes)
        check = self._check
        for frame in frames:
            check = zlib.crc32(frame, check)
        if check != item.check or sum(len(frame) for frame in frames) != expected:
            raise Damaged(f"chunk {item.index} of a body of {self.size} bytes is damaged")
        for frame in frames:
            self._fill(memoryview(frame))
        self._check = check
        self.next += 1
        self.rewound = False

    def whole(self) -> tuple[bytes, Frames]:
        """The body and its frames, once everything has arrived."""
        while len(self._rooms) < len(self.manifest.parts):
            self._rooms.append(memoryview(b""))  # the last parts may have no bytes
        body, *frames = self._rooms
        return bytes(body), tuple(frame.toreadonly() for frame in frames)

    def _fill(self, piece: memoryview) -> None:
        while len(piece):
            while not len(self._free):
                self._free = _room(self.manifest.parts[len(self._rooms)])
                self._rooms.append(self._free)
            count = min(len(piece), len(self._free))
            self._free[:count] = piece[:count]
            self._free = self._free[count:]
            piece = piece[count:]


def _edges(parts: tuple[memoryview, ...]) -> int:
    check = 0
    for part in parts:
        check = zlib.crc32(part[-_EDGE_BYTES:], zlib.crc32(part[:_EDGE_BYTES], check))
    return check


def _room(size: int) -> memoryview:
    """Memory for a part. The pages of a large one are the system's to give, as they are filled."""
    if size <= INLINE_MAX_BYTES:
        return memoryview(bytearray(size))
    try:
        room = mmap.mmap(-1, size)
        if size >= _HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
            room.madvise(mmap.MADV_HUGEPAGE)  # to fault in 64 MiB page by page takes 30 ms
        return memoryview(room)
    except OSError:
        raise Overloaded(f"there is no memory for a body of {size} bytes") from None
