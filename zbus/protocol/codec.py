"""Parcels to ZeroMQ frames and back: total, and the only room that knows the header's form.

Rules:

* Any frames decode to well-typed parcels or raise ``Malformed``; never anything else (spec 3.1).
* A message is one header frame (``MAGIC``, then a MessagePack array of items) and the body
  frames that its items count, in order (spec 2.2 to 2.4).
* Decoding is typed and in C. It neither looks into bodies nor recurses into unknown values, so
  that nesting cannot reach it; and it knows how long each array may be before it reads it, so
  that a length is never believed (spec 3.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from zbus.errors import Malformed
from zbus.protocol.limits import BATCH_ITEMS_MAX, FRAMES_MAX, HEADER_MAX_BYTES
from zbus.protocol.message import (
    MAGIC,
    NO_FRAMES,
    Chunk,
    Frames,
    Item,
    Manifest,
    Parcel,
    Push,
    Reply,
    Request,
)

__all__ = ["OtherVersion", "decode", "decode_manifest", "encode", "encode_manifest"]

_Items = Annotated[list[Item], msgspec.Meta(min_length=1, max_length=BATCH_ITEMS_MAX)]
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[list[Item]] = msgspec.msgpack.Decoder(_Items)
_manifest_decoder: msgspec.msgpack.Decoder[Manifest] = msgspec.msgpack.Decoder(Manifest)
_MAGIC_LENGTH = len(MAGIC)
_PROTOCOL = MAGIC[:-1]
_COUNTING = frozenset((Request, Reply, Push, Chunk))
_COPIED_MAX_BYTES = 4_096

# What msgspec may raise on hostile bytes; the last two are not MsgspecErrors (see the tests).
_REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# A Parcel made without its Python-level __new__: this line runs once an item.
_new = tuple.__new__


class OtherVersion(Malformed):
    """A message of this protocol in a version that we do not speak; a broker answers it with
    the cause VERSION instead of MALFORMED (spec 2.2)."""


def encode(parcels: Sequence[Parcel]) -> list[bytes | memoryview]:
    """One ZeroMQ message that says these parcels, in order; at least one."""
    message: list[bytes | memoryview] = [
        MAGIC + _encoder.encode([parcel.item for parcel in parcels])
    ]
    for parcel in parcels:
        if parcel.frames:
            message.extend(parcel.frames)
    return message


def decode(frames: Sequence[bytes | memoryview]) -> list[Parcel]:
    """The parcels of one ZeroMQ message.

    Raises:
        Malformed: the frames are no message of ZBP/1.
    """
    if not frames:
        raise Malformed("a message without frames")
    items = _items(frames[0])
    if len(frames) == 1:
        return _without_frames(items)
    return _with_frames(items, frames)


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as the body of a Request or an Offer."""
    return _encoder.encode(manifest)


def decode_manifest(body: bytes) -> Manifest:
    """What the body of a Request with LARGE, or of an Offer, says.

    Raises:
        Malformed: it is no manifest.
    """
    try:
        return _manifest_decoder.decode(body)
    except _REFUSED as error:
        raise Malformed(f"the manifest of a large body cannot be read: {error}") from None


def _items(header: bytes | memoryview) -> list[Item]:
    length = len(header)
    if length > HEADER_MAX_BYTES:
        raise Malformed(f"a header of {length} bytes")
    if header[:_MAGIC_LENGTH] != MAGIC:
        raise _no_signature(header)
    if length > _COPIED_MAX_BYTES:
        header = memoryview(header)  # for less, a copy is quicker than a view
    try:
        return _decoder.decode(header[_MAGIC_LENGTH:])
    except _REFUSED as error:
        raise Malformed(f"the header is not a list of items: {error}") from None


def _no_signature(header: bytes | memoryview) -> Malformed:
    if len(header) >= _MAGIC_LENGTH and header[: _MAGIC_LENGTH - 1] == _PROTOCOL:
        return OtherVersion(f"version {header[_MAGIC_LENGTH - 1]} of the protocol is not spoken")
    return Malformed("the signature is not ZBP/1")


def _without_frames(items: list[Item]) -> list[Parcel]:
    for item in items:
        if type(item) in _COUNTING and item.frames and _counted(item):  # type: ignore[union-attr]
            raise Malformed("the items count frames, and none came")
    return [_new(Parcel, (item, NO_FRAMES)) for item in items]


def _with_frames(items: list[Item], frames: Sequence[bytes | memoryview]) -> list[Parcel]:
    if len(frames) - 1 > FRAMES_MAX:
        raise Malformed(f"{len(frames) - 1} body frames in one message")
    parcels: list[Parcel] = []
    start = 1
    for item in items:
        count = _counted(item)
        taken: Frames = tuple(frames[start : start + count]) if count else NO_FRAMES
        parcels.append(_new(Parcel, (item, taken)))
        start += count
    if start != len(frames):
        raise Malformed(f"the items count {start - 1} frames, and {len(frames) - 1} came")
    return parcels


def _counted(item: Item) -> int:
    if isinstance(item, Push):
        return _counted_of_push(item)
    if isinstance(item, Request | Reply | Chunk):
        return item.frames
    return 0


def _counted_of_push(item: Push) -> int:
    if not item.frames:
        return 0
    if len(item.frames) != len(item.bodies):
        raise Malformed("a Push counts frames for other bodies than it has")
    return sum(item.frames)
