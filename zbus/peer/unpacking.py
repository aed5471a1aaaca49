"""MessagePack with extensions and frames back to values, whatever the bytes.

This is the long way of decoding, for bodies that ``peer.body`` cannot decode in one call. Rules:

* Nothing here recurses in C. ``msgpack`` unpacks with a stack of its own, extensions are read
  after it has returned, and our own recursion is bounded by ``MAX_DEPTH``; so no body overruns
  a small thread stack.
* No length said in the bytes is believed: each is bounded by the bytes that are there, every
  frame must be named, and all spans together are no longer than the frames are.
* Equal keys: the last wins. Many keys with one hash are refused, because building a table of
  them takes quadratic time in C, during which no other thread runs and no heartbeat is sent.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, TypeVar

import msgpack
import msgspec
from msgspec import Meta, Struct

from zbus.errors import Malformed
from zbus.peer.arrays import Flat, restore
from zbus.peer.packing import INTEGER_MAX_BYTES, LEAVES, MAX_DEPTH, Code
from zbus.peer.register import form_named
from zbus.protocol.message import Frames

__all__ = ["Unpacking"]

_C = TypeVar("_C")
_T = TypeVar("_T")
_COLLISIONS_MAX = 64
"""Keys of one hash in one dict or set."""

_Place = Annotated[int, Meta(ge=0, le=2**53)]


class _Where(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    frame: _Place
    start: _Place
    length: _Place


class _ArrayForm(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    dtype: Annotated[str, Meta(max_length=32)]
    shape: Annotated[tuple[_Place, ...], Meta(max_length=64)] | None
    fortran: bool
    buffer: bytes | _Where


_read_where = msgspec.msgpack.Decoder(_Where).decode
_read_array = msgspec.msgpack.Decoder(_ArrayForm).decode
_read_moment = msgspec.msgpack.Decoder(Annotated[str, Meta(max_length=64)]).decode


class _Ext(NamedTuple):
    """An extension as it came, to be read once the whole is unpacked."""

    code: int
    content: bytes


class Unpacking:
    """One body on its way back to values; sees that every frame is used, and used once."""

    __slots__ = ("_frames", "_left", "_used")

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._used: set[int] = set()
        self._left = sum(map(len, frames))

    def whole(self, packed: bytes | memoryview) -> Any:
        """The value. Raises ``Malformed`` and whatever the libraries raise on hostile bytes."""
        value = _unpacked(packed)
        if not _is_settled(value):
            value = self._settled(value, MAX_DEPTH)
        if len(self._used) != len(self._frames):
            raise Malformed("the body came with frames that it does not name")
        return value

    def _settled(self, value: Any, room: int) -> Any:
        """The value with every extension in it read; lists and dicts are changed in place."""
        kind = type(value)
        if kind in LEAVES:
            return value
        if kind is _Ext:
            return self._read(value, room)
        if kind is list:
            return self._settled_list(value, _inside(room))
        if kind is dict:
            return self._settled_dict(value, _inside(room))
        raise Malformed("a body with extension type -1, MessagePack's own timestamp")

    def _settled_list(self, value: list[Any], room: int) -> list[Any]:
        if not LEAVES.issuperset(map(type, value)):
            value[:] = [self._settled(item, room) for item in value]
        return value

    def _settled_dict(self, value: dict[Any, Any], room: int) -> dict[Any, Any]:
        if not LEAVES.issuperset(map(type, value)):
            raise Malformed("a body with an extension as a key of a map")
        if not LEAVES.issuperset(map(type, value.values())):
            for key, item in value.items():
                value[key] = self._settled(item, room)
        return value

    def _read(self, extension: _Ext, room: int) -> Any:
        reader = _READERS.get(extension.code)
        if reader is None:
            raise Malformed(f"a body with extension type {extension.code}, which is not known")
        return reader(self, extension.content, room)

    def _elements(self, content: bytes, room: int) -> list[Any]:
        elements = _unpacked(content)
        if type(elements) is not list:
            raise Malformed("a body with an extension that holds no list")
        return self._settled_list(elements, _inside(room))

    def _tuple(self, content: bytes, room: int) -> tuple[Any, ...]:
        return tuple(self._elements(content, room))

    def _set(self, content: bytes, room: int) -> set[Any]:
        return set(_spread(self._elements(content, room)))

    def _frozenset(self, content: bytes, room: int) -> frozenset[Any]:
        return frozenset(_spread(self._elements(content, room)))

    def _pairs(self, content: bytes, room: int) -> dict[Any, Any]:
        elements = self._elements(content, room)
        return dict(zip(_spread(elements[::2]), elements[1::2], strict=True))

    def _object(self, content: bytes, room: int) -> Any:
        name, parts = self._elements(content, room)
        form = form_named(name) if type(name) is str else None
        if form is None:
            raise Malformed(f"a body with a value of a type that is not registered: {name!a:.60}")
        return form.make(parts)

    def _int(self, content: bytes, _room: int) -> int:
        if len(content) > INTEGER_MAX_BYTES:
            raise Malformed(f"an int of {len(content)} bytes")
        return int.from_bytes(content, "big", signed=True)

    def _datetime(self, content: bytes, _room: int) -> datetime.datetime:
        return _made("a datetime", datetime.datetime.fromisoformat, _read_moment(content))

    def _date(self, content: bytes, _room: int) -> datetime.date:
        return _made("a date", datetime.date.fromisoformat, _read_moment(content))

    def _array(self, content: bytes, _room: int) -> Any:
        form = _read_array(content)
        buffer = form.buffer
        whole = self._span(buffer) if isinstance(buffer, _Where) else buffer
        return _made("an array", restore, Flat(form.dtype, form.shape, form.fortran, whole))

    def _bytes(self, content: bytes, _room: int) -> bytes:
        return bytes(self._span(_read_where(content)))

    def _text(self, content: bytes, _room: int) -> str:
        return str(self._span(_read_where(content)), "utf-8")

    def _span(self, where: _Where) -> bytes | memoryview:
        """The bytes of a span. All spans together are no longer than the frames are, so that a
        small body cannot have one frame copied a million times."""
        frame = self._frames[where.frame]
        self._used.add(where.frame)
        self._left -= where.length
        if self._left < 0 or where.start + where.length > len(frame):
            raise Malformed("a body with spans beyond its frames")
        if where.start == 0 and where.length == len(frame):
            return frame
        return memoryview(frame)[where.start : where.start + where.length]


_READERS: Mapping[int, Any] = {
    Code.TUPLE: Unpacking._tuple,
    Code.SET: Unpacking._set,
    Code.FROZENSET: Unpacking._frozenset,
    Code.PAIRS: Unpacking._pairs,
    Code.INTEGER: Unpacking._int,
    Code.DATETIME: Unpacking._datetime,
    Code.DATE: Unpacking._date,
    Code.ARRAY: Unpacking._array,
    Code.BYTES: Unpacking._bytes,
    Code.TEXT: Unpacking._text,
    Code.OBJECT: Unpacking._object,
}


def _unpacked(packed: bytes | memoryview) -> Any:
    # By default msgpack lets no length in the bytes exceed the number of bytes.
    return msgpack.unpackb(packed, ext_hook=_Ext, strict_map_key=False)


def _is_settled(value: Any) -> bool:
    """Whether nothing in it is left to be read, nor to be refused. Most bodies are so, and are
    looked at level by level, without a call for each of their parts."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for container in level:
            items: Any = container
            if type(container) is dict:
                if not LEAVES.issuperset(map(type, container)):
                    return False
                items = container.values()
            elif type(container) is not list:
                return False
            if not LEAVES.issuperset(map(type, items)):
                for item in items:
                    if type(item) not in LEAVES:
                        inner.append(item)
        if not inner:
            return True
        level = inner
    return False


def _made(what: str, make: Callable[[_C], _T], content: _C) -> _T:
    try:
        return make(content)
    except Malformed:
        raise
    except Exception as error:  # noqa: BLE001 - whose text may quote the body
        kind = type(error).__name__
        raise Malformed(f"a body with {what} that cannot be made: {kind}") from None


def _inside(room: int) -> int:
    if not room:
        raise Malformed(f"a body with more than {MAX_DEPTH} containers in each other")
    return room - 1


def _spread(keys: list[Any]) -> list[Any]:
    """The keys, unless too many have one hash. Plain ones cannot: hashes of text and bytes are
    salted, and of 64-bit numbers no more than a few dozen share one."""
    if len(keys) > _COLLISIONS_MAX and not LEAVES.issuperset(map(type, keys)):
        ((_, most),) = Counter(map(hash, keys)).most_common(1)
        if most > _COLLISIONS_MAX:
            raise Malformed("a body with too many keys of one hash")
    return keys
