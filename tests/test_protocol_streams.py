"""One large body on its way: chunks, checks, windows, and what cannot be taken (spec 14)."""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.errors import Damaged, Overloaded
from zbus.protocol.limits import CHUNK_MAX_BYTES, FRAMES_MAX
from zbus.protocol.message import Accept, Chunk, Frames, Manifest
from zbus.protocol.streams import InStream, OutStream


def accept(after: int, window: int, rewind: bool = False) -> Accept:
    return Accept("e", 1, 1, False, after, window, rewind)


def chunk(index: int, check: int, frames: Frames) -> Chunk:
    return Chunk("e", 1, 1, False, index, check, len(frames))


def receiver(stream: OutStream) -> InStream:
    return InStream(stream.manifest, None, 0.0)


def pass_on(stream: OutStream, into: InStream) -> None:
    index, check, frames = stream.take()
    assert index == into.next
    into.write(chunk(index, check, frames), frames)


PARTS = st.lists(st.binary(max_size=40), min_size=1, max_size=FRAMES_MAX + 1).filter(any)


@given(PARTS, st.integers(1, 50))
def test_what_is_cut_is_put_together(parts: Sequence[bytes], size: int) -> None:
    """Any parts, empty ones among them, in chunks of any size; the last check is the checksum of
    the whole, and no chunk has too many frames or bytes (spec 14.2)."""
    body, *frames = parts
    stream = OutStream(body, tuple(frames), size)
    into = receiver(stream)
    stream.accepted(accept(0, 10_000, True))
    check = 0
    while stream.is_ready:
        assert not into.is_whole
        index, check, pieces = stream.take()
        assert len(pieces) <= FRAMES_MAX
        assert sum(map(len, pieces)) <= size
        into.write(chunk(index, check, pieces), pieces)
        assert into.arrived_bytes == min((index + 1) * size, stream.size)
    assert into.is_whole
    assert check == zlib.crc32(b"".join(parts))
    assert into.whole() == (body, tuple(frames))


def test_a_chunk_is_no_copy() -> None:
    """Its frames are views of the body."""
    part = bytearray(100)
    stream = OutStream(b"", (memoryview(part),), 64)
    stream.accepted(accept(0, 1))
    (piece,) = stream.take()[2]
    assert isinstance(piece, memoryview)
    assert piece.obj is part


def test_a_chunk_is_never_larger_than_the_protocol_allows() -> None:
    """Whatever bodies a broker allows besides."""
    assert OutStream(bytes(10), (), 2**40).manifest.chunk == CHUNK_MAX_BYTES
    assert OutStream(bytes(10), (), 0).manifest.chunk == 1


def test_nothing_is_sent_that_was_not_asked_for() -> None:
    """Before the first Accept nothing, and then up to its window (spec 14.3)."""
    stream = OutStream(bytes(10), (), 1)
    assert not stream.is_ready
    stream.accepted(accept(0, 2))
    assert [stream.take()[0] for _ in range(2) if stream.is_ready] == [0, 1]
    assert not stream.is_ready
    assert stream.flying == 2
    stream.accepted(accept(1, 2))
    assert stream.take()[0] == 2
    assert not stream.is_ready
    assert stream.arrived_bytes == 1


def test_nobody_has_what_was_never_sent() -> None:
    """An Accept that says so changes nothing."""
    stream = OutStream(bytes(10), (), 1)
    stream.accepted(accept(1, 5, True))
    assert not stream.is_ready
    assert stream.acked == 0


def test_it_goes_on_where_it_was() -> None:
    """After a loss nothing is sent until the receiver asks; then from where it is, with the same
    checks (spec 14.3)."""
    stream = OutStream(bytes(range(10)), (), 1)
    stream.accepted(accept(0, 5))
    first = [stream.take()[:2] for _ in range(5)]
    stream.accepted(accept(2, 5))
    stream.detached()
    assert (stream.flying, stream.is_ready) == (0, False)
    stream.accepted(accept(3, 2, True))
    assert [stream.take()[:2] for _ in range(2)] == first[3:5]
    assert not stream.is_ready


def test_a_rewind_goes_back_and_its_absence_does_not() -> None:
    """What is under way is not sent twice because something else has arrived."""
    stream = OutStream(bytes(10), (), 1)
    stream.accepted(accept(0, 4))
    for _ in range(4):
        stream.take()
    stream.accepted(accept(1, 4))
    assert stream.take()[0] == 4
    stream.accepted(accept(1, 4, True))
    assert stream.take()[0] == 1


@pytest.mark.parametrize("spoil", ["bit", "short", "long", "check"])
def test_what_was_not_sent_so_is_damaged(spoil: str) -> None:
    """A flipped bit, a missing byte, one too many, or another check."""
    stream = OutStream(bytes(range(20)), (), 10)
    into = receiver(stream)
    stream.accepted(accept(0, 2))
    pass_on(stream, into)
    index, check, (piece,) = stream.take()
    raw = bytearray(piece)
    if spoil == "bit":
        raw[3] ^= 1
    elif spoil == "short":
        raw.pop()
    elif spoil == "long":
        raw += b"x"
    else:
        check ^= 1
    with pytest.raises(Damaged):
        into.write(chunk(index, check, (bytes(raw),)), (bytes(raw),))
    assert into.next == 1


def test_a_chunk_of_the_right_bytes_and_the_wrong_length_is_damaged() -> None:
    """Although its check is right, for it says more than the manifest did."""
    into = InStream(Manifest(10, (10,), 0), None, 0.0)
    more = bytes(11)
    with pytest.raises(Damaged):
        into.write(chunk(0, zlib.crc32(more), (more,)), (more,))


def test_what_arrives_cannot_be_changed() -> None:
    """Frames are read-only, as those that come in one message."""
    stream = OutStream(b"b", (bytes(100),), 64)
    into = receiver(stream)
    stream.accepted(accept(0, 2))
    pass_on(stream, into)
    pass_on(stream, into)
    assert into.whole()[1][0].readonly  # type: ignore[union-attr]


def test_memory_is_not_had_for_a_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest of a petabyte costs nothing; its first chunk is refused where there is no memory,
    and that is an error which can be said."""
    into = InStream(Manifest(4, (2**50,), 0), None, 0.0)

    def refuse(*_: object) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(Overloaded, match="memory"):
        into.write(chunk(0, zlib.crc32(b"abcd"), (b"abcd",)), (b"abcd",))


def test_bodies_are_told_apart_by_their_edges() -> None:
    """By the first and the last bytes of each part, and by the sizes; no more is looked at."""
    one = OutStream(b"a", (bytes(20_000),), 100).manifest
    assert one == OutStream(b"a", (bytes(20_000),), 100).manifest
    for other in (bytes(19_999) + b"x", b"x" + bytes(19_999)):
        assert OutStream(b"a", (other,), 100).manifest != one
        assert OutStream(b"b", (bytes(20_000),), 100).manifest != one
    inside = bytes(10_000) + b"x" + bytes(9_999)
    assert OutStream(b"a", (inside,), 100).manifest == one
