"""Bodies survive the wire with their types, and any bytes at all are a value or ``Malformed``."""

from __future__ import annotations

import datetime
import math
import threading
from typing import Any

import msgpack
import numpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from hypothesis.strategies import SearchStrategy

from zbus.errors import Malformed, TooLarge, UnencodableBody
from zbus.peer import body as room
from zbus.peer.body import PACKED_MAX_BYTES, decode_body, encode_body, size_of
from zbus.peer.packing import MAX_DEPTH
from zbus.peer.unpacking import Unpacking
from zbus.protocol.limits import FRAMES_MAX, INLINE_MAX_BYTES
from zbus.protocol.message import NO_FRAMES, Frames

MOMENTS = st.datetimes(timezones=st.none() | st.just(datetime.UTC))
HASHABLE: SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | MOMENTS
    | st.dates(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
PLAIN_DTYPES = (
    arrays.boolean_dtypes()
    | arrays.integer_dtypes()
    | arrays.unsigned_integer_dtypes()
    | arrays.floating_dtypes(sizes=(16, 32, 64))
    | arrays.complex_number_dtypes(sizes=(64, 128))
    | arrays.datetime64_dtypes()
    | arrays.timedelta64_dtypes()
    | arrays.byte_string_dtypes(max_len=4)
    | arrays.unicode_string_dtypes(max_len=4)
)
ARRAYS = PLAIN_DTYPES.flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_side=3))
)
VALUES: SearchStrategy[Any] = st.recursive(
    HASHABLE | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(HASHABLE, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, numpy.ndarray | numpy.generic):
        return one.dtype == other.dtype and one.shape == other.shape and alike(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, datetime.datetime):
        return bool(one == other) and one.utcoffset() == other.utcoffset()
    return bool(one == other)


def alike(one: Any, other: Any) -> bool:
    return bytes(numpy.asarray(one).tobytes()) == bytes(numpy.asarray(other).tobytes())


def trip(value: Any) -> Any:
    return decode_body(*encode_body(value))


def nested(depth: int, kind: type = list) -> Any:
    value: Any = kind()
    for _ in range(depth - 1):
        value = kind([value])
    return value


# -- what goes in comes out ---------------------------------------------------------------


@given(VALUES)
@example({"a": (1, {2}), (1, 2): frozenset({b"x"}), None: [True, 1.5, "é"]})
@example([-(2**63), 2**64 - 1, 2**64, -(2**63) - 1, 2**8000])
def test_a_body_comes_back_with_its_types(value: Any) -> None:
    """Any value of the closed set comes back equal, and each part of it has its type."""
    assert same(trip(value), value)


@given(VALUES)
def test_the_short_way_and_the_long_way_agree(value: Any) -> None:
    """A body that is decoded in one call gives what the long way gives."""
    body, frames = encode_body(value)
    assert same(Unpacking(frames).whole(body), decode_body(body, frames))


@given(st.floats())
def test_every_float_survives(value: float) -> None:
    """Infinities, negative zero and not-a-number come back."""
    came = trip([value])[0]
    assert math.copysign(1.0, came) == math.copysign(1.0, value)
    assert came == value or (math.isnan(came) and math.isnan(value))


@pytest.mark.parametrize("value", [bytearray(b"ab"), memoryview(b"ab"), memoryview(b"aXb")[::2]])
def test_buffers_arrive_as_bytes(value: Any) -> None:
    """A bytearray or a memoryview, of whatever layout, arrives as bytes."""
    assert same(trip({"b": value}), {"b": b"ab"})


def test_a_named_zone_arrives_as_its_offset() -> None:
    """The instant and the offset of an aware datetime survive; the zone's name does not."""
    zone = datetime.timezone(datetime.timedelta(hours=2, seconds=1), "Erewhon")
    moment = datetime.datetime(2026, 7, 1, 12, 0, 0, 5, tzinfo=zone)
    came = trip(moment)
    assert came == moment
    assert came.utcoffset() == moment.utcoffset()


def test_plain_bodies_are_plain_messagepack() -> None:
    """A body without extensions is what any MessagePack library writes and reads."""
    value = {"id": 7, "tags": ["a", None, True], "raw": b"\x00", "at": {"x": -1.5}}
    body, frames = encode_body(value)
    assert body == msgpack.packb(value)
    assert frames == NO_FRAMES


# -- frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [INLINE_MAX_BYTES - 50, INLINE_MAX_BYTES, INLINE_MAX_BYTES + 1])
@pytest.mark.parametrize("kind", [bytes, bytearray, numpy.zeros])
def test_a_buffer_is_a_frame_from_the_limit_on(kind: Any, length: int) -> None:
    """Shorter buffers are in the item; longer ones are frames that share the buffer's memory."""
    value = numpy.zeros(length, "u1") if kind is numpy.zeros else kind(length)
    body, frames = encode_body({"a": [value]})
    assert len(frames) == (1 if length >= INLINE_MAX_BYTES else 0)
    assert same(decode_body(body, frames)["a"][0], bytes(value) if kind is bytearray else value)
    if frames:
        assert numpy.shares_memory(numpy.frombuffer(frames[0], "u1"), numpy.frombuffer(value, "u1"))
        assert size_of(body, frames) == len(body) + length


def test_received_arrays_share_the_frame_and_are_read_only() -> None:
    """Neither side copies an array of its own frame; a received array, long or short, is
    read-only, even where the frame could be written to."""
    sent = numpy.arange(20_000.0)
    body, (frame,) = encode_body(sent)
    came = decode_body(body, (memoryview(bytearray(frame)),))
    assert not came.flags.writeable
    assert numpy.shares_memory(sent, decode_body(body, (frame,)))
    assert not trip(numpy.arange(3)).flags.writeable


def test_long_bytes_are_not_copied_where_the_frame_is_bytes() -> None:
    """A frame that came as bytes is the value itself; a view becomes bytes."""
    value = bytes(INLINE_MAX_BYTES)
    body, frames = encode_body(value)
    assert decode_body(body, frames) is value
    assert same(decode_body(body, (memoryview(value),)), value)


def test_a_long_text_is_a_frame() -> None:
    """Texts from the limit on travel beside the body, counted in bytes of UTF-8."""
    value = "é" * INLINE_MAX_BYTES
    body, frames = encode_body({"text": value})
    assert [len(frame) for frame in frames] == [2 * INLINE_MAX_BYTES]
    assert decode_body(body, frames) == {"text": value}


def test_many_middling_buffers_leave_the_packed_part() -> None:
    """A body whose buffers are each too short for a frame and together too long for the packed
    part is sent all the same."""
    value = [(b"x" * 60_000, "y" * 60_000, numpy.zeros(60_000, "u1")) for _ in range(40)]
    assert PACKED_MAX_BYTES < 40 * 180_000
    assert same(trip(value), value)
    assert same(
        trip([part for row in value for part in row[:2]]), [p for r in value for p in r[:2]]
    )


@pytest.mark.parametrize("count", [FRAMES_MAX - 2, FRAMES_MAX - 1, FRAMES_MAX, 3 * FRAMES_MAX])
def test_more_buffers_than_frames_share_one(count: int) -> None:
    """However many long buffers a body has, it never has more frames than one item may count."""
    odd = [numpy.full(INLINE_MAX_BYTES + n, n % 250, "u1") for n in range(count)]
    value = {"weights": odd, "long": [0.5] * 20_000}
    body, frames = encode_body(value)
    assert len(frames) <= FRAMES_MAX
    came = decode_body(body, frames)
    assert same(came, value)
    assert all(item.ctypes.data % 8 == 0 for item in came["weights"][1:])


def test_a_long_packed_part_is_the_first_frame() -> None:
    """What is too long for an item leaves it empty and goes before the buffers."""
    value = {"list": [0.5] * 10_000, "array": numpy.zeros(INLINE_MAX_BYTES, "u1")}
    body, frames = encode_body(value)
    assert body == b""
    assert len(frames) == 2
    assert same(decode_body(body, tuple(memoryview(frame) for frame in frames)), value)
    plain_body, plain_frames = encode_body([0.5] * 10_000)
    assert (plain_body, len(plain_frames)) == (b"", 1)
    assert decode_body(plain_body, plain_frames) == [0.5] * 10_000


def test_a_packed_part_beyond_its_bound_is_refused_on_both_sides() -> None:
    """The packed part is bounded, and the bound is the same for sender and receiver."""
    fits = [0.5] * ((PACKED_MAX_BYTES - 5) // 9)
    body, frames = encode_body(fits)
    assert decode_body(body, frames) == fits
    with pytest.raises(TooLarge):
        encode_body([*fits, 0.5])
    with pytest.raises(Malformed):
        decode_body(b"", (bytes(frames[0]) + b"\x00",))
    with pytest.raises(Malformed):
        decode_body(msgpack.packb([*fits, 0.5]), NO_FRAMES)


# -- depth ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple, lambda items=(): dict(enumerate(items))])
def test_the_depth_is_bounded_alike_on_both_sides(kind: Any) -> None:
    """The deepest body that may be sent is received; one level more is refused by both."""
    assert same(trip(nested(MAX_DEPTH, kind)), nested(MAX_DEPTH, kind))
    with pytest.raises(UnencodableBody, match=f"more than {MAX_DEPTH} containers"):
        encode_body(nested(MAX_DEPTH + 1, kind))
    with pytest.raises(Malformed, match=f"more than {MAX_DEPTH} containers"):
        decode_body(b"\x91" * MAX_DEPTH + b"\x90", NO_FRAMES)


def test_the_deepest_place_holds_any_leaf() -> None:
    """Arrays, long ints and dates are leaves: they count for no level."""
    value: Any = [2**70, numpy.arange(2), datetime.date(2026, 1, 1), b"x" * INLINE_MAX_BYTES]
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    assert same(trip(value), value)


@pytest.mark.parametrize("depth", [1, 2, 32, 64, 65, 511, 512, 1_023, 1_025, 60_000])
@pytest.mark.parametrize("head", [b"\x91", b"\x81\xa1k", b"\x81", b"\xdd\x00\x00\x00\x01"])
def test_no_depth_overruns_a_small_stack(head: bytes, depth: int) -> None:
    """In a thread with a stack of 128 KiB, any nesting is a value or ``Malformed``."""
    came = in_small_thread(lambda: decode_body(head * depth + b"\xc0", NO_FRAMES))
    assert came is Malformed if depth > MAX_DEPTH else came is not None


@pytest.mark.parametrize("depth", [64, 65, 300])
def test_nested_extensions_do_not_overrun_a_small_stack(depth: int) -> None:
    """Nor do tuples in tuples, which MessagePack says as extensions in extensions."""
    packed = b"\x90"
    for _ in range(depth - 1):
        packed = b"\x91" + packed
        packed = b"\xc8" + len(packed).to_bytes(2, "big") + b"\x01" + packed
    came = in_small_thread(lambda: decode_body(packed, NO_FRAMES))
    assert came is Malformed if depth > MAX_DEPTH else isinstance(came, tuple)


def in_small_thread(action: Any) -> Any:
    """What the action returns in such a thread, or the type of what it raises."""
    ends: list[Any] = []

    def act() -> None:
        try:
            ends.append(action())
        except Malformed:
            ends.append(Malformed)

    before = threading.stack_size(131_072)
    try:
        thread = threading.Thread(target=act, daemon=True)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join(30)
    return ends[0]


# -- any bytes ------------------------------------------------------------------------------

NOISE = st.binary(max_size=64)
LONG_NOISE = st.binary(max_size=256)
NOISE_FRAMES: SearchStrategy[Frames] = st.lists(
    NOISE | NOISE.map(lambda noise: memoryview(noise)), max_size=3
).map(tuple)


def value_or_malformed(body: bytes, frames: Frames) -> bool:
    """Whether it is a value; anything raised but a short ``Malformed`` fails the test."""
    try:
        value = decode_body(body, frames)
    except Malformed as refused:
        text = refused.what.encode()
    else:
        return bool(repr(value))
    assert len(text) < 400
    return False


@given(NOISE, NOISE_FRAMES)
def test_any_bytes_are_a_value_or_malformed(body: bytes, frames: Frames) -> None:
    """Noise never raises anything but ``Malformed``."""
    value_or_malformed(body, frames)


@given(st.integers(-128, 127), LONG_NOISE, NOISE_FRAMES)
def test_any_extension_is_a_value_or_malformed(code: int, noise: bytes, frames: Frames) -> None:
    """Every extension type may hold anything."""
    head = b"\xc8" + len(noise).to_bytes(2, "big") + code.to_bytes(1, "big", signed=True)
    value_or_malformed(head + noise, frames)


MENDED = st.recursive(
    st.none()
    | st.integers(-9, 2**33)
    | st.booleans()
    | st.sampled_from(["<f8", "<U1", "|S0", "é"])
    | NOISE,
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


@given(st.integers(1, 10), MENDED, NOISE_FRAMES)
@example(8, ["<U1", [1], False, b"\xff\xff\xff\xff"], ())
@example(8, ["<U0", [2**40], False, b""], ())
@example(8, ["<f8", [2**62, 0], False, b""], ())
@example(8, ["<M8[0s]", [1], False, bytes(8)], ())
@example(8, ["|O8", [1], False, bytes(8)], ())
@example(4, [[], 1], ())
@example(4, [1], ())
@example(2, [[1]], ())
@example(9, [0, 2**53, 2**53], (b"x",))
@example(6, "9999-99-99", ())
def test_any_wrong_extension_is_malformed(code: int, content: Any, frames: Frames) -> None:
    """Well-formed MessagePack of the wrong shape in an extension is a value or ``Malformed``."""
    packed = msgpack.packb(content)
    value_or_malformed(msgpack.packb([msgpack.ExtType(code, packed)]), frames)


@given(VALUES, st.data())
def test_a_damaged_body_is_a_value_or_malformed(value: Any, draw: st.DataObject) -> None:
    """A body cut, lengthened or with a byte changed never raises anything else."""
    body, frames = encode_body(value)
    place = draw.draw(st.integers(0, len(body) - 1))
    byte = draw.draw(st.integers(0, 255))
    value_or_malformed(body[:place] + bytes([byte]) + body[place + 1 :], frames)
    value_or_malformed(body[:place], frames)
    assert not value_or_malformed(body + b"\x00", frames)


LENGTH_HEADS = [0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF]


@pytest.mark.parametrize("head", LENGTH_HEADS)
def test_no_length_is_believed(head: int) -> None:
    """A length of 2**32 - 1 that is not there is refused without being allocated."""
    with pytest.raises(Malformed):
        decode_body(bytes([head]) + b"\xff" * 4 + b"\x01", NO_FRAMES)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "cannot be read"),
        (b"\xc1", "cannot be read"),
        (b"\x01\x01", "extra"),
        (b"\x81\x90\x01", "unhashable"),
        (b"\x81\xd4\x05\x01\x01", "extension as a key"),
        (b"\xd4\x7f\x00", "extension type 127"),
        (b"\xd6\xff\x00\x00\x00\x00", "extension type -1"),
        (b"\xd4\xd8\x00", "extension type -40"),
        (b"\xa1\xff", "cannot be read"),
    ],
)
def test_a_refusal_says_why(body: bytes, why: str) -> None:
    """What is refused is named."""
    with pytest.raises(Malformed, match=why):
        decode_body(body, NO_FRAMES)


def test_the_bound_on_depth_holds_where_all_is_plain() -> None:
    """The typed decoder is never asked to go deeper than its types say."""
    assert room._unpack_shallow(b"\x91\x91\x91\x01") == [[[1]]]
    assert decode_body(b"\x91\x91\x91\x91\x01", NO_FRAMES) == [[[[1]]]]
