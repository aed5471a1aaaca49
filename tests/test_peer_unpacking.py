"""Hostile bodies are refused before they cost anything, and frames are used exactly once."""

from __future__ import annotations

import sys
import time
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.errors import Malformed
from zbus.peer.body import decode_body, encode_body
from zbus.peer.packing import INTEGER_MAX_BYTES, MAX_DEPTH, Code
from zbus.peer.unpacking import Unpacking
from zbus.protocol.limits import INLINE_MAX_BYTES

FRAME = bytes(range(256)) * 4


def extension(code: Code, content: Any) -> msgpack.ExtType:
    return msgpack.ExtType(int(code), msgpack.packb(content))


def span(start: int, length: int, frame: int = 0) -> msgpack.ExtType:
    return extension(Code.BYTES, [frame, start, length])


def decode(value: Any, *frames: bytes | memoryview) -> Any:
    return decode_body(msgpack.packb(value), frames)


def test_every_frame_must_be_named() -> None:
    """A frame that the body does not name is refused: somebody counts wrongly."""
    assert decode([span(0, 1024)], FRAME) == [FRAME]
    with pytest.raises(Malformed, match="does not name"):
        decode([span(0, 1024)], FRAME, FRAME)
    with pytest.raises(Malformed, match="does not name"):
        decode([1], FRAME)


@given(st.lists(st.tuples(st.integers(0, 1024), st.integers(0, 1024)), min_size=1, max_size=4))
def test_spans_take_no_more_than_there_is(spans: list[tuple[int, int]]) -> None:
    """Spans beyond their frame, or longer together than all frames, are refused."""
    allowed = sum(length for _, length in spans) <= len(FRAME)
    allowed = allowed and all(start + length <= len(FRAME) for start, length in spans)
    body = [span(start, length) for start, length in spans]
    if allowed:
        assert decode(body, FRAME) == [FRAME[start : start + n] for start, n in spans]
    else:
        with pytest.raises(Malformed, match="beyond its frames"):
            decode(body, FRAME)


@pytest.mark.parametrize(
    "where", [[1, 0, 1], [-1, 0, 1], [0, -1, 1], [0, 0, 2**60], [0, 0], [0, 0, 1, 1], "x", 0, None]
)
def test_a_span_of_another_shape_is_malformed(where: Any) -> None:
    """A span is three numbers that name a place in a frame."""
    for code in (Code.BYTES, Code.TEXT):
        with pytest.raises(Malformed):
            decode([extension(code, where)], FRAME)


def test_one_frame_cannot_be_copied_a_million_times() -> None:
    """A small body that names one long frame again and again is refused at the second time."""
    frame = memoryview(bytes(1_000_000))
    began = time.monotonic()
    with pytest.raises(Malformed, match="beyond its frames"):
        decode([span(0, 1_000_000)] * 60_000, frame)
    assert time.monotonic() - began < 5.0


def test_keys_that_collide_are_refused() -> None:
    """Tuples of -1 and -2 have one hash: a table of them would take minutes, and hold up every
    thread meanwhile. A few of them are harmless, and pass."""
    keys = [
        extension(Code.TUPLE, [-1 - (number >> bit & 1) for bit in range(15)])
        for number in range(2**15)
    ]
    began = time.monotonic()
    for hostile in (
        extension_of(Code.SET, keys),
        extension_of(Code.FROZENSET, keys),
        extension_of(Code.PAIRS, [part for key in keys for part in (key, 0)]),
    ):
        with pytest.raises(Malformed, match="one hash"):
            decode_body(msgpack.packb(hostile), ())
    assert time.monotonic() - began < 10.0
    assert len(decode_body(msgpack.packb(extension_of(Code.SET, keys[:64])), ())) == 64


def extension_of(code: Code, items: list[msgpack.ExtType]) -> msgpack.ExtType:
    return msgpack.ExtType(int(code), msgpack.packb(items))


def test_many_ordinary_keys_are_no_collision() -> None:
    """Large sets and dicts of any keys that people use come back."""
    for value in (
        {(x, y) for x in range(-20, 20) for y in range(20)},
        {(n, str(n)): n for n in range(2_000)},
        set(range(10_000)),
        {n * 2**64 for n in range(1_000)},
        {float(n) for n in range(5_000)},
    ):
        assert decode_body(*encode_body(value)) == value


def test_of_equal_keys_the_last_wins() -> None:
    """As in JSON and in Python: it is said, and the two ways of decoding agree on it."""
    twice = b"\x82\xa1k\x01\xa1k\x02"
    assert decode_body(twice, ()) == {"k": 2}
    assert Unpacking(()).whole(twice) == {"k": 2}


def nested(depth: int, inmost: Any) -> Any:
    """In so many lists and dicts, turn about."""
    for level in range(depth):
        inmost = [inmost] if level % 2 else {"a": b"x", "b": inmost}
    return inmost


@pytest.mark.parametrize("depth", [0, 1, 2, 3, MAX_DEPTH - 1])
def test_what_is_refused_is_refused_at_any_depth(depth: int) -> None:
    """MessagePack's own timestamps, an extension as a key, and one container too many; beside
    bytes, which one call cannot decode."""
    assert decode(nested(depth, [b"x"])) == nested(depth, [b"x"])
    with pytest.raises(Malformed, match="timestamp"):
        decode(nested(depth, msgpack.Timestamp(1)))
    with pytest.raises(Malformed, match="as a key"):
        decode(nested(depth, {extension(Code.TUPLE, [1]): b"x"}))
    with pytest.raises(Malformed, match="containers in each other"):
        decode(nested(MAX_DEPTH, [b"x"]))


def test_a_plain_body_is_looked_at_without_a_call_for_each_part() -> None:
    """As with the messages of engines, which have bytes and texts within dicts."""
    body = msgpack.packb([{"body": b"x", "headers": {"t": "x", "jar": {"a": [1, b"y"]}}}, {}])
    calls: list[str] = []
    sys.setprofile(lambda frame, event, _: calls.append(event))
    try:
        Unpacking(()).whole(body)
    finally:
        sys.setprofile(None)
    assert calls.count("call") <= 5


def test_an_endless_int_is_refused() -> None:
    """The length of an int is bounded, since arithmetic on it is not."""
    longest = 2 ** (8 * INTEGER_MAX_BYTES - 1) - 1
    assert decode_body(*encode_body(longest)) == longest
    with pytest.raises(Malformed, match="an int of"):
        decode_body(msgpack.packb(msgpack.ExtType(5, bytes(INTEGER_MAX_BYTES + 1))), ())


def test_text_in_a_frame_must_be_text() -> None:
    """A frame that is named as text and is no UTF-8 is malformed."""
    body, _ = encode_body("x" * INLINE_MAX_BYTES)
    with pytest.raises(Malformed):
        decode_body(body, (b"\xff" * INLINE_MAX_BYTES,))
