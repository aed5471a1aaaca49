"""What is no message of ZBP/1: valid frames and items, broken by rule.

Rules:

* ``malformed`` breaks one rule of the specification, by construction. It never asks the codec
  what it thinks, so a decoder that takes its frames has a fault.
* ``hostile`` adds noise and blind mutations, some of which hit nothing that matters.

Both are given strategies for what is valid; ``zbus.testing.strategies`` joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast, get_args

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from zbus.protocol.codec import encode
from zbus.protocol.limits import (
    BATCH_ITEMS_MAX,
    FRAMES_MAX,
    NAME_MAX,
    PUSH_BATCH_MAX,
    STRAGGLERS_MAX,
    TEXT_MAX,
    TOPICS_MAX,
)
from zbus.protocol.message import (
    MAGIC,
    Bye,
    Cancel,
    Cause,
    Credit,
    Heartbeat,
    Hello,
    Item,
    Parcel,
    Push,
    Reply,
    Request,
    Role,
    Serve,
)

__all__ = ["Message", "hostile", "malformed"]

Message: TypeAlias = list[bytes | memoryview]
"""The frames of one ZeroMQ message, without the routing id."""
_Messages: TypeAlias = SearchStrategy[Message]
_Items: TypeAlias = SearchStrategy[Item]
_Mutation: TypeAlias = Callable[[bytes], bytes]


def malformed(frames: _Messages, items: _Items) -> _Messages:
    """Frames that are no message, each for a reason that one can name."""
    return st.one_of(
        _cut_short(frames),
        _cut_long(frames),
        _with_a_wrong_signature(frames),
        _with_a_wrong_field(items.filter(lambda item: item != Heartbeat())),
        _with_a_wrong_item(items),
        _with_wrong_frames(frames),
        st.sampled_from(_OUT_OF_BOUNDS).map(lambda item: encode([Parcel(item)])),
        st.sampled_from(_NOT_LISTS).map(lambda raw: [MAGIC + raw]),
        st.sampled_from([[], [b""], [b"", b""], [MAGIC]]).map(list),
    )


def hostile(frames: _Messages, items: _Items) -> _Messages:
    """Whatever a stranger may send."""
    noise = st.lists(st.binary(max_size=32), max_size=4).map(list[bytes | memoryview])
    signed = st.binary(max_size=64).map(lambda raw: [MAGIC + raw])
    endless = st.builds(_repeated, st.binary(max_size=4), st.integers(1, 300))
    mutations = st.lists(_mutations(), min_size=1, max_size=4)
    return st.one_of(
        noise,
        cast(_Messages, signed),
        endless,
        st.builds(_mutated, frames, mutations),
        frames.flatmap(st.permutations).map(list),
        malformed(frames, items),
    )


# -- values ---------------------------------------------------------------------------------

# MessagePack by family: a field of one family refuses the values of all the others.
_VALUES: dict[str, tuple[bytes, ...]] = {
    "nil": (b"\xc0",),
    "bool": (b"\xc2", b"\xc3"),
    "int": (b"\x00", b"\x01", b"\xcc\x05", b"\xcd\x00\x05", b"\xd3" + bytes(7) + b"\x05"),
    "float": (b"\xca" + bytes(4), b"\xcb\x3f\xf0" + bytes(6), b"\xcb\x7f\xf8" + bytes(6)),
    "str": (b"\xa0", b"\xa1a", b"\xd9\x01a", b"\xda\x00\x01a", b"\xdb\x00\x00\x00\x01a"),
    "bytes": (b"\xc4\x00", b"\xc4\x01a", b"\xc5\x00\x01a", b"\xc6\x00\x00\x00\x01a"),
    "tuple": (b"\x90", b"\x91\x01", b"\xdc\x00\x00", b"\xdd\x00\x00\x00\x00"),
    "map": (b"\x80", b"\x81\x01\x02", b"\xde\x00\x00", b"\xdf\x00\x00\x00\x00"),
}
_EXTENSIONS = [
    bytes((0xC7, length, code)) + bytes(length)
    for code in range(256)
    for length in (0, 1, 2, 4, 8, 16)
] + [bytes((0xD4 + power, 0xFF)) + bytes(2**power) for power in range(5)]
_LADDER = (1, 2, 32, 511, 512, 1_024, 1_025, 100_000)
_LENGTH_HEADERS = {
    1: (0xD9, 0xC4, 0xC7),
    2: (0xDA, 0xC5, 0xDC, 0xDE, 0xC8),
    4: (0xDB, 0xC6, 0xDD, 0xDF, 0xC9),
}
_LIES = {
    width: [
        bytes((first,)) + length
        for first in headers
        for length in (b"\xff" * width, b"\x7f" + b"\xff" * (width - 1))
    ]
    for width, headers in _LENGTH_HEADERS.items()
}
_NO_UTF_8 = [b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xa2\xc0\xaf"]
# Refused wherever they stand: reserved, out of every range, no UTF-8, too deep, extensions, or
# longer than they are. A lie of one byte is not among them: what follows might make it true.
_WRONG_ANYWHERE: list[list[bytes]] = [
    [b"\xc1", b"\xff", b"\xd3\x80" + bytes(7), b"\xcf" + b"\xff" * 8],
    _NO_UTF_8,
    [b"\x91" * deep + b"\xc0" for deep in _LADDER if deep > 1],
    _EXTENSIONS,
    _LIES[2] + _LIES[4],
]
_NOT_LISTS = [
    b"\x90",
    b"\xdc\x00\x00",
    b"\xdc" + (BATCH_ITEMS_MAX + 1).to_bytes(2, "big") + b"\x91\x03" * (BATCH_ITEMS_MAX + 1),
    b"\xdd\xff\xff\xff\xff\x91\x03",
    b"\x91\x90",
    b"\x81\x91\x03\x91\x03",
    *(b"\x91" * deep + b"\xc0" for deep in _LADDER),
    *(lie for lies in _LIES.values() for lie in lies),
    *(raw for family, values in _VALUES.items() if family != "tuple" for raw in values),
]
_OUT_OF_BOUNDS: list[Item] = [
    *(
        Hello(name, Role.ENGINE, 1, (), 1, b"")
        for name in ("", ".", "a..b", ".a", "a.", "a b", "a\n", "\xe9", "a/b", "a" * NAME_MAX + "b")
    ),
    *(Serve((topic,), ()) for topic in ("", "a.*", ">", "zbus.status", "zbus.x")),
    Serve((), ("a.",)),
    Serve(("a",) * (TOPICS_MAX + 1), ()),
    Hello("a", Role.ENGINE, 1, (), 1, bytes(257)),
    Hello("a", cast(Role, 2), 1, (), 1, b""),
    Bye(cast(Cause, 200), ""),
    Bye(Cause.CLOSED, "x" * (TEXT_MAX + 1)),
    Cancel("a" * (NAME_MAX + 1), 1, 1),
    Cancel("a", 2**63, 1),
    Cancel("a", 1, -1),
    Credit("a", 1, "t" * (NAME_MAX + 1), 1, 1, rewind=False),
    Reply("a", 1, 1, b"", FRAMES_MAX + 1),
    Request("a", 1, 1, "t", "", 2**53 + 1, 0, 1, (), "", b"", 0),
    Request("a", 1, 1, "t", "", 1, 32, 1, (), "", b"", 0),
    Request("a", 1, 1, "t", "", 1, 0, 1, (0,) * (STRAGGLERS_MAX + 1), "", b"", 0),
    Request("a", 1, 1, "t", "", 1, 0, 1, (), "x" * 65, b"", 0),
    Push(1, "a", 1, "t", 1, 1, (), ()),
    Push(1, "a", 1, "t", 1, 1, (b"",) * (PUSH_BATCH_MAX + 1), ()),
]


def _pack(value: object) -> bytes:
    # The codec packs whatever stands where an item should, behind MAGIC and one array byte.
    return bytes(encode([Parcel(cast(Item, value))])[0])[len(MAGIC) + 1 :]


def _array(parts: Sequence[bytes]) -> bytes:
    return bytes((0x90 | len(parts),)) + b"".join(parts)


def _parts(item: Item) -> list[bytes]:
    """Kind and fields of an item, each packed."""
    fields = [_pack(getattr(item, name)) for name in item.__struct_fields__]
    return [_pack(item)[1:2], *fields]


def _family(value: object) -> str:
    return "int" if isinstance(value, Role | Cause) else type(value).__name__


# -- one rule broken --------------------------------------------------------------------------


@st.composite
def _cut_short(draw: st.DrawFn, frames: _Messages) -> Message:
    header, *rest = draw(frames)
    return [header[: draw(st.integers(0, len(header) - 1))], *rest]


@st.composite
def _cut_long(draw: st.DrawFn, frames: _Messages) -> Message:
    header, *rest = draw(frames)
    return [bytes(header) + draw(st.binary(min_size=1, max_size=8)), *rest]


@st.composite
def _with_a_wrong_signature(draw: st.DrawFn, frames: _Messages) -> Message:
    header, *rest = draw(frames)
    wrong = bytearray(header)
    wrong[draw(st.integers(0, len(MAGIC) - 1))] ^= draw(st.integers(1, 255))
    return [bytes(wrong), *rest]


@st.composite
def _with_a_wrong_field(draw: st.DrawFn, items: _Items) -> Message:
    """One field, of any kind of item, holds a value of another family or one that lies."""
    item = draw(items)
    parts = _parts(item)
    index = draw(st.integers(1, len(parts) - 1))
    own = _family(getattr(item, item.__struct_fields__[index - 1]))
    others = [raw for family, values in _VALUES.items() if family != own for raw in values]
    parts[index] = draw(st.sampled_from([others, *_WRONG_ANYWHERE]).flatmap(st.sampled_from))
    return [MAGIC + _array([_array(parts)])]


@st.composite
def _with_a_wrong_item(draw: st.DrawFn, items: _Items) -> Message:
    """A good item, and one of an unknown kind or with one field too many or too few."""
    kind, *fields = _parts(draw(items))
    unknown = st.integers(len(get_args(Item)) + 1, 2**64 - 1) | st.integers(-(2**63), 0)
    no_kind = st.sampled_from(_VALUES["str"] + _VALUES["float"] + _VALUES["nil"])
    breaks: list[SearchStrategy[list[bytes]]] = [
        unknown.map(lambda number: [_pack(number), *fields]),
        no_kind.map(lambda raw: [raw, *fields]),
        st.sampled_from(_VALUES["int"]).map(lambda raw: [kind, *fields, raw]),
    ]
    if fields:
        breaks.append(st.integers(0, len(fields) - 1).map(lambda n: [kind, *fields[:n]]))
    wrong = _array(draw(st.one_of(breaks)))
    return [MAGIC + _array(draw(st.permutations([_pack(draw(items)), wrong])))]


@st.composite
def _with_wrong_frames(draw: st.DrawFn, frames: _Messages) -> Message:
    """Body frames that no item counts, or fewer than are counted."""
    message = draw(frames)
    if len(message) > 1 and draw(st.booleans()):
        return message[: draw(st.integers(1, len(message) - 1))]
    return message + _repeated(draw(st.binary(max_size=4)), draw(st.integers(1, 300)))


# -- blind mutations ----------------------------------------------------------------------------


def _repeated(frame: bytes, count: int) -> Message:
    return [frame] * count


def _mutations() -> SearchStrategy[_Mutation]:
    """Functions from bytes to bytes; places are fractions, so that they fit any length."""
    place = st.floats(0.0, 1.0, exclude_max=True)
    first_byte = st.integers(0xC0, 0xDF).map(lambda byte: bytes((byte,)))
    return st.one_of(
        st.builds(_flip, place, st.integers(0, 7)),
        st.builds(_insert, place, st.binary(min_size=1, max_size=4) | first_byte),
        st.builds(_duplicate, place, place),
        st.builds(_truncate, place),
    )


def _flip(place: float, bit: int) -> _Mutation:
    def mutate(raw: bytes) -> bytes:
        wrong = bytearray(raw)
        if wrong:
            wrong[int(place * len(wrong))] ^= 1 << bit
        return bytes(wrong)

    return mutate


def _insert(place: float, extra: bytes) -> _Mutation:
    return lambda raw: raw[: int(place * len(raw))] + extra + raw[int(place * len(raw)) :]


def _duplicate(place: float, other: float) -> _Mutation:
    low, high = sorted((place, other))
    return lambda raw: raw[: int(high * len(raw))] + raw[int(low * len(raw)) :]


def _truncate(place: float) -> _Mutation:
    return lambda raw: raw[: int(place * len(raw))]


def _mutated(message: Message, mutations: list[_Mutation]) -> Message:
    header = bytes(message[0])
    for mutate in mutations:
        header = mutate(header)
    return [header, *message[1:]]
