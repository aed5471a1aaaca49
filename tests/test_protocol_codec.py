"""The codec: total over any bytes, and in agreement with an encoder that is not ours.

That its bounds are exact stands in ``test_protocol_limits.py``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgpack
import pytest
from hypothesis import event, given, target
from hypothesis import strategies as st

from zbus.errors import Malformed
from zbus.protocol.codec import OtherVersion, decode, encode
from zbus.protocol.limits import BATCH_ITEMS_MAX, FRAMES_MAX
from zbus.protocol.message import (
    MAGIC,
    Accept,
    Bye,
    Cancel,
    Cause,
    Chunk,
    Credit,
    Done,
    Fault,
    Heartbeat,
    Hello,
    Item,
    Offer,
    Parcel,
    Push,
    Reply,
    Request,
    Role,
    Serve,
    Welcome,
)
from zbus.testing import strategies as zst

ROOT = Path(__file__).resolve().parent.parent
NUMBER_OF = {kind: number for number, kind in enumerate(Item.__args__, 1)}


def plain(item: Item) -> list[object]:
    """The array that section 4 of the specification says this item is."""
    values = (getattr(item, name) for name in item.__struct_fields__)
    fields = [list(value) if isinstance(value, tuple) else value for value in values]
    return [NUMBER_OF[type(item)], *(int(f) if isinstance(f, Role | Cause) else f for f in fields)]


def longest(value: object) -> bytes:
    """A value in the longest form that MessagePack has for it."""
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xcf" + value.to_bytes(8, "big")
    if isinstance(value, str):
        raw = value.encode()
        return b"\xdb" + len(raw).to_bytes(4, "big") + raw
    if isinstance(value, bytes):
        return b"\xc6" + len(value).to_bytes(4, "big") + value
    assert isinstance(value, list)
    return b"\xdd" + len(value).to_bytes(4, "big") + b"".join(map(longest, value))


# -- agreement ------------------------------------------------------------------------------


@given(zst.messages())
def test_what_is_encoded_is_decoded(parcels: list[Parcel]) -> None:
    """Every message survives: the same items, the same frames, in the same order."""
    assert decode(encode(parcels)) == parcels


@given(zst.messages())
def test_views_are_decoded_like_bytes(parcels: list[Parcel]) -> None:
    """A transport may hand frames over as bytes or as views of its own memory."""
    views = [memoryview(frame) for frame in encode(parcels)]
    assert decode(views) == parcels


@given(zst.messages())
def test_an_independent_encoder_agrees(parcels: list[Parcel]) -> None:
    """Byte for byte, a header is what msgpack makes of the tables of the specification."""
    header = encode(parcels)[0]
    assert header == MAGIC + msgpack.packb([plain(parcel.item) for parcel in parcels])
    assert msgpack.unpackb(header[len(MAGIC) :]) == [plain(parcel.item) for parcel in parcels]


@given(zst.messages())
def test_every_form_of_a_value_is_read_alike(parcels: list[Parcel]) -> None:
    """A sender that uses longer forms than it must says the same (spec 2.3)."""
    header = MAGIC + longest([plain(parcel.item) for parcel in parcels])
    assert decode([header, *encode(parcels)[1:]]) == parcels


@given(zst.messages(), zst.messages())
def test_batching_changes_nothing(first: list[Parcel], second: list[Parcel]) -> None:
    """Two messages say together what they say one by one (spec 2.3)."""
    frames = sum(len(parcel.frames) for parcel in first + second)
    event("fits" if frames <= FRAMES_MAX else "too many frames")
    if frames <= FRAMES_MAX:
        assert decode(encode(first + second)) == decode(encode(first)) + decode(encode(second))


def test_frames_are_not_copied() -> None:
    """Body frames pass through in both directions as the very same objects."""
    frame = bytes(100_000)
    message = encode([Parcel(Reply("a", 1, 1, b"", 1), (frame,))])
    assert message[1] is frame
    assert decode(message)[0].frames[0] is frame


@given(st.binary(max_size=200))
def test_bodies_are_not_looked_into(body: bytes) -> None:
    """Whatever a body holds, MessagePack's reserved byte and our own signature among it, passes."""
    parcel = Parcel(Reply("a", 1, 1, MAGIC + b"\xc1" + body, 1), (MAGIC + b"\xc1" + body,))
    assert decode(encode([parcel])) == [parcel]


# -- totality -------------------------------------------------------------------------------


@given(zst.hostile_frames())
def test_any_frames_are_a_message_or_malformed(frames: Sequence[bytes | memoryview]) -> None:
    """Nothing but Malformed is raised, and what is taken is well-typed and accounts for every
    frame (spec 3.1)."""
    try:
        parcels = decode(frames)
    except Malformed as error:
        event(f"refused: {error.what.partition(':')[0]:.30}")
        return
    event("taken")
    target(len(parcels), label="items taken")
    assert [frame for parcel in parcels for frame in parcel.frames] == list(frames[1:])
    assert decode(encode(parcels)) == parcels
    assert len(parcels) <= BATCH_ITEMS_MAX


@given(st.lists(st.binary(max_size=40), max_size=3))
def test_noise_is_malformed(frames: list[bytes]) -> None:
    """Random bytes, with and without our signature, never get through as anything else than a
    message that says the same when it is encoded again."""
    for message in (frames, [MAGIC + b"".join(frames[:1]), *frames[1:]]):
        try:
            assert decode(encode(decode(message))) == decode(message)
        except Malformed:
            continue


@given(zst.malformed_frames())
def test_what_is_malformed_is_refused(frames: Sequence[bytes | memoryview]) -> None:
    """Each of the ways in which the strategies break a message is noticed (spec 3.2)."""
    with pytest.raises(Malformed):
        decode(frames)


@given(zst.frames(), st.integers(0, 255))
def test_another_version_is_told_from_garbage(
    frames: list[bytes | memoryview], version: int
) -> None:
    """A broker can say VERSION to who speaks this protocol in another version (spec 2.2)."""
    header = MAGIC[:-1] + bytes((version,)) + bytes(frames[0])[len(MAGIC) :]
    if version != MAGIC[-1]:
        with pytest.raises(OtherVersion, match=f"version {version} "):
            decode([header, *frames[1:]])
    with pytest.raises(Malformed) as caught:
        decode([b"XBP" + header[3:], *frames[1:]])
    assert type(caught.value) is Malformed


FAMILIES = {
    type(None): b"\xc0",
    bool: b"\xc3",
    int: b"\x05",
    float: b"\xcb\x3f\xf0" + bytes(6),
    str: b"\xa1a",
    bytes: b"\xc4\x01a",
    list: b"\x91\x01",
    dict: b"\x81\xa1a\x01",
    msgpack.ExtType: b"\xd4\x05\x00",
    msgpack.Timestamp: b"\xd6\xff" + bytes(4),
    Malformed: b"\xc1",
}
EXAMPLES: list[Item] = [
    Hello("a", Role.ENGINE, 1, ("t",), 1, b"proof"),
    Welcome(1, 1, 1, 1, 1, 1, ("ipc://pipe",), 0),
    Bye(Cause.CLOSED, "text"),
    Request("a", 1, 1, "t", "b", 1, 0, 1, (1,), "trace", b"body", 0),
    Reply("a", 1, 1, b"body", 0),
    Fault("a", 1, 1, 104, 0, 0, "text"),
    Cancel("a", 1, 1),
    Push(1, "a", 1, "t", 1, 1, (b"body",), (0,)),
    Credit("a", 1, "t", 1, 1, rewind=False),
    Serve(("t",), ("u",)),
    Offer("a", 1, 1, b"body"),
    Accept("a", 1, 1, True, 1, 1, False),
    Chunk("a", 1, 1, False, 1, 1, 0),
    Done("a", 1, 1),
]


@pytest.mark.parametrize("item", EXAMPLES, ids=lambda item: type(item).__name__)
def test_every_field_refuses_every_other_type(item: Item) -> None:
    """Each field, and the kind, replaced by a value of each other family, is malformed; nothing
    is converted: no float to an integer, no integer to a boolean, no bytes to text (spec 3.2)."""
    array = plain(item)
    for place, value in enumerate(array):
        for family, wrong in FAMILIES.items():
            parts = [msgpack.packb(one) for one in array]
            parts[place] = wrong
            header = MAGIC + b"\x91" + bytes((0x90 | len(parts),)) + b"".join(parts)
            if family is type(value):
                continue
            with pytest.raises(Malformed):
                decode([header])


def test_every_kind_is_tried_above() -> None:
    """The examples are of all kinds that have fields."""
    assert {type(item) for item in EXAMPLES} | {Heartbeat} == set(NUMBER_OF)


@pytest.mark.parametrize("raw", [b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xa2\xc0\xaf"])
def test_what_is_no_utf_8_is_malformed(raw: bytes) -> None:
    """The decoder's own error for this is none of msgspec's, and must not get out."""
    with pytest.raises(Malformed, match="utf-8"):
        decode([MAGIC + b"\x91\x94\x08" + raw + b"\x01\x01"])


SMALL_STACK = """
import threading
from zbus.errors import Malformed
from zbus.protocol.codec import decode
from zbus.protocol.message import MAGIC

def nested(depth):
    ladder = b"\\x91" * depth + b"\\xc0"
    yield MAGIC + ladder
    yield MAGIC + b"\\x91" + b"\\x81" * depth + b"\\xc0"
    yield MAGIC + b"\\x91\\x92\\x03" + ladder
    yield MAGIC + b"\\x91\\x93\\x0b" + ladder + b"\\x90"
    yield MAGIC + b"\\x91\\x96\\x06\\xa1a\\x01\\x01" + ladder + b"\\x00"
    yield MAGIC + b"\\x91\\x93" + ladder + b"\\x90\\x90"

def refuse_all():
    for depth in (1, 2, 32, 511, 512, 901, 1024, 1025, 100_000):
        for header in nested(depth):
            try:
                decode([header])
            except Malformed:
                refused.append(depth)

refused = []
threading.stack_size(64 * 1024)
thread = threading.Thread(target=refuse_all)
thread.start()
thread.join()
print(len(refused))
"""


def test_nesting_cannot_overrun_a_small_stack() -> None:
    """Deep nesting in any place is refused in a thread with a stack of 64 KiB, where a decoder
    that recurses would kill the process and no test could catch it."""
    done = subprocess.run(
        [sys.executable, "-c", SMALL_STACK], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.strip()) == (0, str(9 * 6)), done.stderr
