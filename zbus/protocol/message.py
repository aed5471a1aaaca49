"""The items of ZBP/1 as frozen types: what peers and broker say to each other.

An *item* is one statement (a request, a reply, a heartbeat). A ZeroMQ message carries one or
more items, because what became ready together travels together (spec 2.3). The fields stand
here in wire order, so this file is section 4 of ``docs/protocol.md`` as types.

A repr of an item shows no body, proof or session, wherever it comes to be printed.

Bodies are opaque bytes. A small body stands in its item; a larger one and array buffers travel
as frames behind the header, and the item counts them (spec 2.4). In memory those frames are
carried beside their item, as a ``Parcel``.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, NamedTuple, TypeAlias

from msgspec import Meta, Struct
from msgspec.structs import replace

from zbus.protocol.limits import (
    CHUNK_MAX_BYTES,
    FRAMES_MAX,
    NAME_MAX,
    NAME_PATTERN,
    PIPES_MAX,
    PUSH_BATCH_MAX,
    STRAGGLERS_MAX,
    TEXT_MAX,
    TOPICS_MAX,
)

__all__ = [
    "AGAIN",
    "LARGE",
    "MAGIC",
    "NO_FRAMES",
    "UNKNOWN_ID",
    "Accept",
    "Bye",
    "Cancel",
    "Cause",
    "Chunk",
    "Credit",
    "Done",
    "Fault",
    "Flag",
    "Frames",
    "Heartbeat",
    "Hello",
    "Item",
    "Key",
    "Manifest",
    "Offer",
    "Parcel",
    "Push",
    "Reply",
    "Request",
    "Role",
    "Serve",
    "Welcome",
    "as_text",
    "with_body",
    "with_flags",
    "with_ttl",
    "without_session",
]

MAGIC = b"ZBP\x01"
"""Protocol and major version: the first four bytes of every message (spec 2.2)."""

Frames: TypeAlias = tuple[bytes | memoryview, ...]
"""Body frames that travel behind the header, in order, not copied on the way."""
NO_FRAMES: Frames = ()

AGAIN = 1
"""Fault code: not run, or perhaps run and remembered; send the same id again (spec 6.5)."""
UNKNOWN_ID = 2
"""Fault code: asked only whether I know this id, and I do not (spec 6.6)."""

# Integers are bounded to what msgpack's signed 64 bits can say.
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Millis = Annotated[int, Meta(ge=0, le=2**53)]
_Name = Annotated[str, Meta(max_length=NAME_MAX)]
_Text = Annotated[str, Meta(max_length=TEXT_MAX)]
# Checked where names come in, so that everywhere else a bad one only matches nothing (spec 3.5).
_NewName = Annotated[str, Meta(max_length=NAME_MAX, pattern=rf"^{NAME_PATTERN}\Z")]
_NewTopic = Annotated[str, Meta(max_length=NAME_MAX, pattern=rf"^(?!zbus\.){NAME_PATTERN}\Z")]
_Topics = Annotated[tuple[_NewTopic, ...], Meta(max_length=TOPICS_MAX)]
_Check = Annotated[int, Meta(ge=0, le=2**32 - 1)]
_FrameCount = Annotated[int, Meta(ge=0, le=FRAMES_MAX)]


class Role(enum.IntEnum):
    """What a peer is; the broker's socket it came on must agree (spec 5.2)."""

    ENGINE = 0
    SERVER = 1


class Cause(enum.IntEnum):
    """Why a dialogue ends (Bye, spec 4.4)."""

    CLOSED = 0
    HELLO_FIRST = 1
    NAME_TAKEN = 2
    SUPERSEDED = 3
    VERSION = 4
    FULL = 5
    DRAINING = 6
    DENIED = 7
    MALFORMED = 8
    SLOW = 9


class Flag(enum.IntFlag):
    """Flags of a Request (spec 4.5). On the wire, and in the hot path, they are plain ints."""

    REPEAT = 1
    """This id was sent before; answer it from memory if you have it."""
    ASK = 2
    """The broker asks whether you know this id; do not start it."""
    WAIT = 4
    """Where nobody serves the topic, say so only when somebody does."""
    PROBE = 8
    """With WAIT: the broker itself answers, with an empty Reply, once it is served."""
    LARGE = 16
    """The body is a manifest: what it tells of comes in chunks, once it is asked for."""


class Key(NamedTuple):
    """What names a request everywhere on the bus: who asked, in which life, which number."""

    source: str
    epoch: int
    number: int


class _Item(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Array on the wire; a surplus field is malformed, because a version says what is new."""

    def __repr__(self) -> str:
        fields = (f"{name}={_shown(name, getattr(self, name))}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(fields)})"


class Hello(_Item, frozen=True, tag=1):
    """A peer presents itself. ``epoch`` grows at every start of the same identity."""

    name: _NewName
    role: Role
    epoch: _Count
    topics: _Topics
    window: _Count
    proof: Annotated[bytes, Meta(max_length=256)]


class Welcome(_Item, frozen=True, tag=2):
    """The broker takes the peer in, and says what the peer must keep."""

    session: _Count
    broker: _Count
    heartbeat_ms: Annotated[int, Meta(ge=1, le=3_600_000)]
    body_max: _Count
    open_max: _Count
    push_window: _Count
    pipe: Annotated[tuple[_Text, ...], Meta(max_length=PIPES_MAX)]
    object_max: _Count


class Heartbeat(_Item, frozen=True, tag=3):
    """I live. Any other item says so as well."""


class Bye(_Item, frozen=True, tag=4):
    """The dialogue is over, because."""

    cause: Cause
    text: _Text


class Request(_Item, frozen=True, tag=5):
    """Answer me within the time left. ``floor`` and ``open`` say which older numbers of this
    source are settled, so that the handler's side may forget them (spec 6.4)."""

    source: _Name
    epoch: _Count
    number: _Count
    topic: _Name
    target: _Name
    ttl_ms: _Millis
    flags: Annotated[int, Meta(ge=0, le=31)]
    floor: _Count
    open: Annotated[tuple[_Count, ...], Meta(max_length=STRAGGLERS_MAX)]
    trace: Annotated[str, Meta(max_length=64)]
    body: bytes
    frames: _FrameCount


class Reply(_Item, frozen=True, tag=6):
    """The answer."""

    source: _Name
    epoch: _Count
    number: _Count
    body: bytes
    frames: _FrameCount


class Fault(_Item, frozen=True, tag=7):
    """There will be no answer, because. ``code`` is an error's number; ``executed`` is
    0 no, 1 maybe, 2 yes."""

    source: _Name
    epoch: _Count
    number: _Count
    code: Annotated[int, Meta(ge=0, le=65_535)]
    executed: Annotated[int, Meta(ge=0, le=2)]
    retry_after_ms: _Millis
    text: _Text


class Cancel(_Item, frozen=True, tag=8):
    """The caller gave up."""

    source: _Name
    epoch: _Count
    number: _Count


class Push(_Item, frozen=True, tag=9):
    """Take these, in order; no answer is owed. ``sequence`` numbers the first body within
    (source, epoch, topic); all below ``floor`` are settled (spec 7.2). ``frames`` is empty, or
    counts the frames of each body."""

    session: _Count
    source: _Name
    epoch: _Count
    topic: _Name
    sequence: _Count
    floor: _Count
    bodies: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=PUSH_BATCH_MAX)]
    frames: Annotated[tuple[_FrameCount, ...], Meta(max_length=PUSH_BATCH_MAX)]


class Credit(_Item, frozen=True, tag=10):
    """Pushes of (source, epoch, topic) up to ``taken`` are settled, and ``window`` more may be
    under way; 0 means that nobody serves the topic now. ``rewind`` asks for everything above
    ``taken`` once more (spec 7.3). ``taken`` 0 from the broker settles nothing."""

    source: _Name
    epoch: _Count
    topic: _Name
    taken: _Count
    window: _Count
    rewind: bool


class Serve(_Item, frozen=True, tag=11):
    """From now on I serve these topics too, and no longer those."""

    added: _Topics
    withdrawn: _Topics


class Offer(_Item, frozen=True, tag=12):
    """The answer is large: ``body`` is its manifest. Nothing is sent until it is accepted."""

    source: _Name
    epoch: _Count
    number: _Count
    body: bytes


class Accept(_Item, frozen=True, tag=13):
    """I have every chunk below ``next``; ``window`` more may be under way. ``rewind`` asks for
    everything from ``next`` on once more. ``reply`` says which body of the request is meant."""

    source: _Name
    epoch: _Count
    number: _Count
    reply: bool
    next: _Count
    window: _Count
    rewind: bool


class Chunk(_Item, frozen=True, tag=14):
    """A piece of a large body; ``check`` is the CRC-32 of all of the body up to its end."""

    source: _Name
    epoch: _Count
    number: _Count
    reply: bool
    index: _Count
    check: _Check
    frames: _FrameCount


class Done(_Item, frozen=True, tag=15):
    """The source has the whole of a large answer."""

    source: _Name
    epoch: _Count
    number: _Count


LARGE: tuple[type[Any], ...] = (Offer, Accept, Chunk, Done)
"""The kinds of item that are about large bodies (spec 14)."""


class Manifest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """What a large body is made of: the bytes of a chunk, and of each of its parts. The first
    part is what else would stand in the item, the others are its frames. ``edges`` is a check of
    the beginnings and ends of the parts, by which one body is told from another (spec 14.1)."""

    chunk: Annotated[int, Meta(ge=1, le=CHUNK_MAX_BYTES)]
    parts: Annotated[tuple[_Count, ...], Meta(min_length=1, max_length=FRAMES_MAX + 1)]
    edges: _Check


Item: TypeAlias = (
    Hello
    | Welcome
    | Heartbeat
    | Bye
    | Request
    | Reply
    | Fault
    | Cancel
    | Push
    | Credit
    | Serve
    | Offer
    | Accept
    | Chunk
    | Done
)


class Parcel(NamedTuple):
    """An item with the body frames that belong to it."""

    item: Item
    frames: Frames = NO_FRAMES

    def __repr__(self) -> str:
        return f"Parcel({self.item!r}, frames={len(self.frames)})"


def _shown(name: str, value: object) -> str:
    """A field as a repr, a log or a traceback may have it: what is said to its receiver only, or
    proves who somebody is, is counted and not quoted."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if name == "bodies" and isinstance(value, tuple):
        return f"<{len(value)} bodies>"
    return "<token>" if name == "session" else repr(value)


def as_text(text: str) -> str:
    """This text as a Bye or a Fault may carry it: cut to ``TEXT_MAX`` characters, and with a
    question mark for what UTF-8 cannot say. What a handler raised must go through here."""
    return text[:TEXT_MAX].encode("utf-8", "replace").decode("utf-8")


def with_ttl(request: Request, ttl_ms: int) -> Request:
    """The same request, with less time left."""
    return replace(request, ttl_ms=ttl_ms)


def with_flags(request: Request, flags: int) -> Request:
    """The same request, marked otherwise."""
    return replace(request, flags=flags)


def with_body(request: Request, body: bytes, frames: int) -> Request:
    """The same request, with the large body that its manifest told of."""
    return replace(request, body=body, frames=frames)


def without_session(push: Push) -> Push:
    """The same push for its receiver: the session is between its sender and the broker."""
    return replace(push, session=0)
