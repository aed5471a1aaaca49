"""Values to plain MessagePack values, with extensions and frames for all that is not plain.

This is the long way of encoding, for bodies that ``peer.body`` cannot pack as they are. Rules:

* Only exact types are known. A subclass is refused, because it would come back as its parent.
* What is refused is named, with the place where it stands: ``body["weights"][2]``.
* Buffers and texts of ``least`` bytes or more become frames. The first ``_OWN_FRAMES`` are
  not copied; the rest are copied into one that they share, since frames are few.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec

from zbus.errors import UnencodableBody
from zbus.peer.arrays import flatten
from zbus.peer.register import Form, form_of
from zbus.protocol.limits import FRAMES_MAX, INLINE_MAX_BYTES

__all__ = ["FIXED", "INTEGER_MAX_BYTES", "LEAVES", "MAX_DEPTH", "Code", "Packing", "pack"]

MAX_DEPTH = 64
"""Containers within each other: lists, dicts, tuples and sets."""
INTEGER_MAX_BYTES = 1_024
_OWN_FRAMES = FRAMES_MAX - 2
"""One more is shared by all buffers beyond these, and one is left for the packed part."""
_SHARED_ALIGNMENT = 16
_MARKS_SHOWN = 8


class Code(enum.IntEnum):
    """The extension types (spec 12.3). The content of each is MessagePack, but INTEGER's."""

    TUPLE = 1
    SET = 2
    FROZENSET = 3
    PAIRS = 4
    """A dict with a key that a MessagePack map cannot have: key, value, key, value ..."""
    INTEGER = 5
    """Beyond 64 bits: two's complement, big-endian."""
    DATETIME = 6
    DATE = 7
    ARRAY = 8
    """dtype, shape (nil for a scalar), whether in Fortran's order, and the buffer or its span."""
    BYTES = 9
    """Bytes in a frame: a span."""
    TEXT = 10
    """UTF-8 in a frame: a span."""
    OBJECT = 11
    """A value of a registered type: its name, and its parts."""


_NARROW = frozenset({type(None), bool, float})
FIXED = _NARROW | {int}
"""The plain types that always fit into an item."""
LEAVES = FIXED | {str, bytes}
"""The plain types without parts; MessagePack maps may have them as keys."""
pack = msgspec.msgpack.Encoder().encode
"""Plain values to bytes. It must be given nothing else: it would take a set for a list."""

_Plain: TypeAlias = Any
"""None, bool, int, float, str, bytes, memoryview, list, dict and Ext."""


class _Span(NamedTuple):
    """Where a buffer stands: which frame, from which byte, how many."""

    frame: int
    start: int
    length: int


class _Refusal(Exception):
    """What cannot be encoded, and the way to it, from the inside out."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.marks: list[str] = []

    def __str__(self) -> str:
        marks = self.marks[::-1]
        if len(marks) > _MARKS_SHOWN:
            half = _MARKS_SHOWN // 2
            marks = [*marks[:half], " ... ", *marks[-half:]]
        return f"body{''.join(marks)}: {self.why}"


def _too_deep() -> _Refusal:
    return _Refusal(f"more than {MAX_DEPTH} containers in each other, or in itself")


class Packing:
    """One body on its way to plain values; collects the frames. Used once."""

    __slots__ = ("_frames", "_least", "_shared", "_shared_bytes")

    def __init__(self, least: int = INLINE_MAX_BYTES) -> None:
        self._least = least
        self._frames: list[bytes | memoryview] = []
        self._shared: list[bytes | memoryview] = []
        self._shared_bytes = 0

    def whole(self, value: Any) -> tuple[bytes, list[bytes | memoryview]]:
        """The packed part, and the frames that it names.

        Raises:
            UnencodableBody: the value cannot be said; the message names the place.
        """
        try:
            packed = pack(self.plain(value, MAX_DEPTH))
        except _Refusal as refusal:
            raise UnencodableBody(str(refusal)) from None
        except MemoryError:
            raise
        except Exception as error:  # A tzinfo of the user's, or a change by another thread.
            raise UnencodableBody(f"body: {type(error).__name__} while it was encoded") from error
        if self._shared:
            self._frames.append(b"".join(self._shared))
        return packed, self._frames

    def plain(self, value: Any, room: int) -> _Plain:
        """The value in plain types, with extensions for the rest."""
        kind = type(value)
        if kind in _NARROW:
            return value
        if kind in _CONTAINERS:
            if not room:
                raise _too_deep()
            return _CONTAINERS[kind](self, value, room - 1)
        if kind in _SINGLES:
            return _SINGLES[kind](self, value)
        form = form_of(kind)
        if form is not None:
            return self._object(form, value, room)
        return self._array(value)

    def _list(self, value: list[Any], room: int) -> _Plain:
        if _NARROW.issuperset(map(type, value)):
            return value
        return self._items(value, room)

    def _items(self, values: Iterable[Any], room: int) -> list[_Plain]:
        items: list[_Plain] = []
        try:
            for value in values:
                items.append(self.plain(value, room))
        except _Refusal as refusal:
            refusal.marks.append(f"[{len(items)}]")
            raise
        return items

    def _dict(self, value: dict[Any, Any], room: int) -> _Plain:
        keys: list[_Plain] = []
        items: list[_Plain] = []
        for key, item in value.items():
            try:
                keys.append(self.plain(key, room))
                items.append(self.plain(item, room))
            except _Refusal as refusal:
                refusal.marks.append(_mark(key, is_key=len(keys) == len(items)))
                raise
        if LEAVES.issuperset(map(type, keys)):
            return dict(zip(keys, items, strict=True))
        return _extension(Code.PAIRS, [x for pair in zip(keys, items, strict=True) for x in pair])

    def _tuple(self, value: tuple[Any, ...], room: int) -> _Plain:
        return _extension(Code.TUPLE, self._items(value, room))

    def _set(self, value: set[Any], room: int) -> _Plain:
        return _extension(Code.SET, self._items(value, room))

    def _frozenset(self, value: frozenset[Any], room: int) -> _Plain:
        return _extension(Code.FROZENSET, self._items(value, room))

    def _int(self, value: int) -> _Plain:
        if -(2**63) <= value < 2**64:
            return value
        length = value.bit_length() // 8 + 1
        if length > INTEGER_MAX_BYTES:
            raise _Refusal(f"an int of {length} bytes; at most {INTEGER_MAX_BYTES}")
        return msgspec.msgpack.Ext(int(Code.INTEGER), value.to_bytes(length, "big", signed=True))

    def _text(self, value: str) -> _Plain:
        try:
            encoded = value.encode()
        except UnicodeEncodeError:
            raise _Refusal("text with lone surrogates") from None
        if len(encoded) < self._least:
            return value
        return _extension(Code.TEXT, self._span(encoded))

    def _bytes(self, value: bytes | bytearray | memoryview) -> _Plain:
        buffer = _buffer(value)
        if len(buffer) < self._least:
            return buffer
        return _extension(Code.BYTES, self._span(buffer))

    def _object(self, form: Form, value: Any, room: int) -> _Plain:
        if not room:
            raise _too_deep()
        return _extension(Code.OBJECT, (form.name, self.plain(form.parts(value), room - 1)))

    def _datetime(self, value: datetime.datetime) -> _Plain:
        return _extension(Code.DATETIME, value.isoformat())

    def _date(self, value: datetime.date) -> _Plain:
        return _extension(Code.DATE, value.isoformat())

    def _array(self, value: Any) -> _Plain:
        try:
            flat = flatten(value)
        except ValueError as error:
            raise _Refusal(str(error)) from None
        if flat is None:
            raise _Refusal(f"a value of type {_name_of(type(value))} cannot be sent")
        buffer: bytes | memoryview | _Span = flat.buffer
        if len(flat.buffer) >= self._least:
            buffer = self._span(flat.buffer)
        return _extension(Code.ARRAY, (flat.dtype, flat.shape, flat.fortran, buffer))

    def _span(self, buffer: bytes | memoryview) -> _Span:
        if len(self._frames) < _OWN_FRAMES:
            self._frames.append(buffer)
            return _Span(len(self._frames) - 1, 0, len(buffer))
        span = _Span(_OWN_FRAMES, self._shared_bytes, len(buffer))
        padding = bytes(-len(buffer) % _SHARED_ALIGNMENT)
        self._shared += (buffer, padding)
        self._shared_bytes += len(buffer) + len(padding)
        return span


_CONTAINERS: Mapping[type, Any] = {
    list: Packing._list,
    dict: Packing._dict,
    tuple: Packing._tuple,
    set: Packing._set,
    frozenset: Packing._frozenset,
}
_SINGLES: Mapping[type, Any] = {
    int: Packing._int,
    str: Packing._text,
    bytes: Packing._bytes,
    bytearray: Packing._bytes,
    memoryview: Packing._bytes,
    datetime.datetime: Packing._datetime,
    datetime.date: Packing._date,
}


def _extension(code: Code, content: _Plain) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(int(code), pack(content))


def _buffer(value: bytes | bytearray | memoryview) -> bytes | memoryview:
    if isinstance(value, bytes):
        return value
    view = memoryview(value)
    if not view.c_contiguous or not view.nbytes:
        return view.tobytes()
    return view.cast("B")


def _mark(key: object, *, is_key: bool) -> str:
    # Only these have a repr that cannot fail or run foreign code.
    shown = f"{key!r:.40}" if type(key) in LEAVES else _name_of(type(key))
    return f"{{key {shown}}}" if is_key else f"[{shown}]"


def _name_of(kind: type) -> str:
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"
