"""Bodies to bytes and back: MessagePack with a closed set of extension types (spec section 12).

Rules of this room:

* What comes out has the types that went in: a tuple stays a tuple, a set a set, bytes stay
  bytes. The exceptions are said: ``bytearray`` and ``memoryview`` arrive as ``bytes``, an aware
  datetime arrives with a fixed offset from UTC instead of a named zone, arrays arrive read-only.
* Encoding refuses what it cannot say exactly. Decoding is total: any bytes and frames give a
  value or ``Malformed``. No pickle, ever.
* Long buffers and texts are frames of their own. Buffers are not copied, so they must not be
  changed until the request has ended. The rest is the *packed* part. Where that is too large for
  an item, the body is empty and the packed part is the first frame (spec 12.1).
* Decoded values can take 75 times the memory of their packed part, so ``PACKED_MAX_BYTES``
  bounds it on both sides. Frames need no such bound; the bus bounds the whole.
* Keys of dicts and elements of sets may be any value here that Python can hash.

Most bodies are small and plain. Those are packed and unpacked here, each by one call into C;
``peer.packing`` and ``peer.unpacking`` are the long way, for all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from zbus.errors import Malformed, TooLarge
from zbus.peer.packing import FIXED, MAX_DEPTH, Packing, pack
from zbus.peer.unpacking import Unpacking
from zbus.protocol.limits import INLINE_MAX_BYTES
from zbus.protocol.message import NO_FRAMES, Frames

__all__ = ["PACKED_MAX_BYTES", "decode_body", "encode_body", "size_of"]

PACKED_MAX_BYTES = 4_194_304
"""The part of a body that is not in frames of its own."""
_LEAST_FRAME_BYTES = 1_024
"""In a body with so many middling buffers that its packed part is too large, already these
go into frames, which they mostly share."""

# Typed decoders check the types in C, and a type without cycles bounds the recursion. What they
# refuse goes the long way, which gives equal values.
_Single: TypeAlias = bool | int | float | str | None
_Depth1: TypeAlias = _Single | list[_Single] | dict[str, _Single]
_Depth2: TypeAlias = _Single | list[_Depth1] | dict[str, _Depth1]
_Depth3: TypeAlias = _Single | list[_Depth2] | dict[str, _Depth2]
_unpack_shallow = msgspec.msgpack.Decoder(_Depth3).decode
_unpack_bytes = msgspec.msgpack.Decoder(bytes).decode
_BIN_FIRST, _BIN_LAST = 0xC4, 0xC6
"""The first byte of bytes; a union of types cannot have both text and bytes."""
_LONG_LIST = 16
"""From here on, looking in C whether all are numbers pays, even where they are not."""


def size_of(body: bytes, frames: Frames) -> int:
    """Bytes of a whole encoded body, which ``body_max_bytes`` bounds."""
    if not frames:
        return len(body)
    return len(body) + sum(memoryview(frame).nbytes for frame in frames)


def encode_body(value: Any) -> tuple[bytes, Frames]:
    """The packed part and the frames that say this value.

    Raises:
        UnencodableBody: it holds a value of a type that is not known, it contains itself or is
            nested too deeply, or it has text with lone surrogates. The message names the place.
        TooLarge: the packed part is above ``PACKED_MAX_BYTES``. The size of the whole is not
            looked at here.
    """
    if _is_plain(value, MAX_DEPTH):
        try:
            packed = pack(value)
            if len(packed) <= PACKED_MAX_BYTES:
                return _placed(packed, NO_FRAMES)
        except (OverflowError, UnicodeEncodeError):
            pass  # A long int, which the long way can say; or lone surrogates, which it finds.
    packed, frames = Packing().whole(value)
    if len(packed) > PACKED_MAX_BYTES:
        packed, frames = Packing(_LEAST_FRAME_BYTES).whole(value)
    return _placed(packed, frames)


def _placed(packed: bytes, frames: Sequence[bytes | memoryview]) -> tuple[bytes, Frames]:
    if len(packed) <= INLINE_MAX_BYTES:
        return packed, tuple(frames)
    if len(packed) > PACKED_MAX_BYTES:
        raise TooLarge(
            f"the body has {len(packed)} bytes besides its arrays, buffers and texts;"
            f" at most {PACKED_MAX_BYTES}"
        )
    return b"", (packed, *frames)


def _is_plain(value: object, room: int) -> bool:
    """Whether the value packs as it is, with nothing that must be a frame."""
    kind = type(value)
    if kind is dict:
        return room > 0 and _is_plain_dict(value, room - 1)  # type: ignore[arg-type]
    if kind is list:
        return room > 0 and _is_plain_list(value, room - 1)  # type: ignore[arg-type]
    if kind is str or kind is bytes:
        return len(value) < INLINE_MAX_BYTES  # type: ignore[arg-type]
    return kind in FIXED


# The two loops below look at leaves themselves: a call for each would double their time.


def _is_plain_dict(value: dict[Any, Any], room: int) -> bool:
    try:
        for key, item in value.items():
            if type(key) is not str and type(key) is not int:
                return False
            kind = type(item)
            if kind is str or kind is bytes:
                if len(item) >= INLINE_MAX_BYTES:
                    return False
            elif kind not in FIXED and not _is_plain(item, room):
                return False
    except RuntimeError:  # Another thread is changing it; the long way says so.
        return False
    return True


def _is_plain_list(value: list[Any], room: int) -> bool:
    if len(value) > _LONG_LIST and FIXED.issuperset(map(type, value)):
        return True
    for item in value:
        kind = type(item)
        if kind is str or kind is bytes:
            if len(item) >= INLINE_MAX_BYTES:
                return False
        elif kind not in FIXED and not _is_plain(item, room):
            return False
    return True


def decode_body(body: bytes, frames: Frames) -> Any:
    """The value that these bytes and frames say.

    Raises:
        Malformed: they say none. Nothing else is raised.
    """
    packed: bytes | memoryview = body
    if frames and not body:
        packed, frames = frames[0], frames[1:]
    if len(packed) > PACKED_MAX_BYTES:
        raise Malformed(f"a body with {len(packed)} bytes besides its buffers")
    if packed and not frames:
        try:
            if _BIN_FIRST <= packed[0] <= _BIN_LAST:
                return _unpack_bytes(packed)
            return _unpack_shallow(packed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return _decode_long(packed, frames)


def _decode_long(packed: bytes | memoryview, frames: Frames) -> Any:
    try:
        return Unpacking(frames).whole(packed)
    except Malformed:
        raise
    except Exception as error:  # noqa: BLE001 - a dozen kinds, RecursionError among them
        raise Malformed(f"the body cannot be read: {error!s:.200}") from None
