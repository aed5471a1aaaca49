"""The large bodies of one session, out and in, under one window (spec 14).

Rules:

* At most ``WINDOW`` chunks of this session are under way to the broker, and the chunks it asks
  for are shared by those that it receives at once. So what waits anywhere on the way is bounded
  by windows, however large the bodies are, and control items never wait behind more.
* At most ``WINDOW`` bodies are received at once, of no more than ``objects_bytes`` together, but
  for a lone one. The others wait for their turn, and their sender with them.
* Bodies that are sent take turns, chunk by chunk.
"""

from __future__ import annotations

from typing import NamedTuple

from zbus.errors import Malformed, TooLarge
from zbus.protocol.codec import decode_manifest, encode_manifest
from zbus.protocol.deadlines import Deadlines
from zbus.protocol.limits import FRAMES_MAX, Limits, SessionLimits
from zbus.protocol.message import Accept, Chunk, Frames, Key, Parcel, Request, Welcome
from zbus.protocol.streams import InStream, OutStream

__all__ = ["WINDOW", "Mark", "Objects"]

WINDOW = 4
"""Chunks under way, in either direction."""
_OF_BROKER, _OF_PEER = Limits(), SessionLimits()


class Mark(NamedTuple):
    """Names a large body: the id of its request, and whether it is the reply."""

    source: str
    epoch: int
    number: int
    reply: bool

    @property
    def key(self) -> Key:
        """The id of its request."""
        return Key(self.source, self.epoch, self.number)


class Objects:
    """All large bodies of one session that are under way, and what is to be said of them."""

    def __init__(self, objects_bytes: int = _OF_PEER.objects_bytes) -> None:
        self._body_max = _OF_BROKER.body_max_bytes
        self._object_max = _OF_BROKER.object_max_bytes
        self._objects_bytes = objects_bytes
        self._out: dict[Mark, OutStream] = {}
        self._in: dict[Mark, InStream] = {}
        self._ready: dict[Mark, OutStream] = {}
        self._flying = 0
        self._waiting: dict[Mark, None] = {}
        self._active: dict[Mark, None] = {}
        self._active_bytes = 0
        self._owed: dict[Mark, bool] = {}
        self._deadlines: Deadlines[Mark] = Deadlines()
        self.strays = 0
        self.count = 0
        """How many bodies are under way, out and in; looked at in every turn."""

    def attached(self, welcome: Welcome) -> None:
        """We are attached anew: chunks that were under way may be lost, and are sent again when
        their receiver, which is told of the request once more, asks for them."""
        self._body_max = welcome.body_max
        self._object_max = welcome.object_max
        self._ready.clear()
        self._owed.clear()
        self._flying = 0
        for stream in self._out.values():
            stream.detached()

    def is_large(self, body: bytes, frames: Frames) -> bool:
        """Whether this body must travel in chunks.

        Raises:
            TooLarge: it may not travel at all.
        """
        size = len(body)
        if frames:
            if len(frames) > FRAMES_MAX:
                text = f"a body of {len(frames)} large pieces; at most {FRAMES_MAX} travel"
                raise TooLarge(text)
            size += sum(len(frame) for frame in frames)
        if size <= self._body_max:
            return False
        if size > self._object_max:
            allowed = max(self._object_max, self._body_max)
            raise TooLarge(f"a body of {size} bytes; the broker allows {allowed}")
        return True

    # -- sending ---------------------------------------------------------------------------

    def offer(self, mark: Mark, body: bytes, frames: Frames, deadline: float | None) -> bytes:
        """A large body is to be sent, and kept until ``drop`` or its deadline; its manifest."""
        stream = self._out[mark] = OutStream(body, frames, self._body_max)
        self._recount()
        if deadline is not None:
            self._deadlines.set(mark, deadline)
        return encode_manifest(stream.manifest)

    def accepted(self, item: Accept) -> OutStream | None:
        """A receiver asks for chunks; the stream it means, if there is one."""
        mark = Mark(item.source, item.epoch, item.number, item.reply)
        stream = self._out.get(mark)
        if stream is None:
            self.strays += 1
            return None
        self._flying -= stream.flying
        stream.accepted(item)
        self._flying += stream.flying
        self._ready.pop(mark, None)
        if stream.is_ready:
            self._ready[mark] = stream
        return stream

    # -- receiving -------------------------------------------------------------------------

    def expect(self, mark: Mark, body: bytes, request: Request | None, deadline: float) -> None:
        """A large body was offered: its manifest, and until when it is to be here.

        Raises:
            Malformed: that is no manifest.
            TooLarge: the body is larger than this bus or this peer allows.
        """
        manifest = decode_manifest(body)
        known = self._in.get(mark)
        if known is not None and known.manifest == manifest:
            self.again(mark)
            return
        self._drop_received(mark)
        stream = InStream(manifest, request, deadline)
        if not stream.size:
            raise Malformed("a large body without a byte")
        if stream.size > min(self._object_max, self._objects_bytes):
            allowed = min(self._object_max, self._objects_bytes)
            raise TooLarge(f"a body of {stream.size} bytes; this peer takes {allowed}")
        self._in[mark] = stream
        self._waiting[mark] = None
        self._recount()
        if request is not None:
            self._deadlines.set(mark, deadline)

    def again(self, mark: Mark) -> None:
        """What was under way may be lost: the sender is asked to go on where we are."""
        if mark in self._active:
            self._owed[mark] = True

    def arrived(self, parcel: Parcel) -> InStream | None:
        """A Chunk came; its stream, if it takes it.

        Raises:
            Damaged, Overloaded: it cannot be taken, and the whole is thrown away.
        """
        item = parcel.item
        assert isinstance(item, Chunk)
        mark = Mark(item.source, item.epoch, item.number, item.reply)
        stream = self._in.get(mark)
        if stream is None or mark not in self._active or item.index != stream.next:
            self.strays += 1
            if mark in self._active and stream is not None:
                self._missing(mark, stream, item.index)
            return None
        try:
            stream.write(item, parcel.frames)
        except Exception:
            self.drop(mark)
            raise
        self._owed.setdefault(mark, False)
        return stream

    def _missing(self, mark: Mark, stream: InStream, index: int) -> None:
        if index > stream.next and not stream.rewound:
            stream.rewound = True
            self._owed[mark] = True

    # -- ending ----------------------------------------------------------------------------

    def drop(self, mark: Mark) -> None:
        """This body is under way no longer, whatever became of it."""
        sent = self._out.pop(mark, None)
        if sent is not None:
            self._flying -= sent.flying
            self._ready.pop(mark, None)
        self._drop_received(mark)
        self._deadlines.remove(mark)
        self._recount()

    def _drop_received(self, mark: Mark) -> None:
        received = self._in.pop(mark, None)
        if received is not None:
            self._waiting.pop(mark, None)
            if mark in self._active:
                del self._active[mark]
                self._active_bytes -= received.size
            self._owed.pop(mark, None)

    def drop_of(self, key: Key) -> None:
        """Both bodies of this request are under way no longer."""
        self.drop(Mark(key.source, key.epoch, key.number, False))
        self.drop(Mark(key.source, key.epoch, key.number, True))

    def clear(self) -> None:
        """The session ends, and nothing is under way any more."""
        for mark in [*self._out, *self._in]:
            self.drop(mark)

    def due(self, now: float) -> list[Mark]:
        """The bodies whose time is up; they are still to be dropped."""
        return self._deadlines.due(now)

    def emit(self) -> list[Parcel]:
        """What is to be said now: chunks are asked for, and sent."""
        self._admit()
        parcels = [self._accept(mark, rewind) for mark, rewind in self._owed.items()]
        self._owed.clear()
        while self._ready and self._flying < WINDOW:
            mark = next(iter(self._ready))
            stream = self._ready.pop(mark)
            index, check, pieces = stream.take()
            self._flying += 1
            if stream.is_ready:
                self._ready[mark] = stream  # behind the others
            parcels.append(Parcel(Chunk(*mark, index, check, len(pieces)), pieces))
        return parcels

    def _recount(self) -> None:
        self.count = len(self._out) + len(self._in)

    def _admit(self) -> None:
        while self._waiting and len(self._active) < WINDOW:
            mark = next(iter(self._waiting))
            size = self._in[mark].size
            if self._active and self._active_bytes + size > self._objects_bytes:
                return
            del self._waiting[mark]
            self._active[mark] = None
            self._active_bytes += size
            self._owed[mark] = True

    def _accept(self, mark: Mark, rewind: bool) -> Parcel:
        window = max(1, WINDOW // len(self._active))
        return Parcel(Accept(*mark, self._in[mark].next, window, rewind))
