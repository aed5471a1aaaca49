"""What guards a socket: CURVE on tcp, ZAP at every door, and what a handshake came to.

Rules of this room:

* _Options count for the bind or connect that follows, so that one ROUTER has doors with CURVE
  (tcp) and without it (ipc, which its directory guards).
* Every door of a guarded broker asks the authenticator and enforces its domain: without that
  ZeroMQ lets everybody in when nobody answers (promise P16).
* Routing ids are not identity. Who a connection is, ZeroMQ says with each message (``User-Id``),
  and which descriptor it has; ``Users`` keeps that for ids that ZeroMQ chose, and asks anew for
  one that a peer chose, since another connection may have had it.
* A connecting socket is watched until its first handshake has succeeded, and its events are
  always read: events that nobody reads would hold up ZeroMQ's own thread.
* No secret is ever part of a repr.
"""

from __future__ import annotations

import enum
import itertools
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import zmq
from zmq.backend import Context, Socket

from zbus.transport.monitor import Monitor

__all__ = ["DOMAIN", "ClientGuard", "Gate", "Handshake", "ServerGuard", "Users", "Watch"]

DOMAIN = "zbus"
_NOBODY = "nobody"
"""The user of a connection of which ZeroMQ does not say who it is: no key, so it is refused."""
_USERS_MAX = 65_536
_SRCFD = int(zmq.SRCFD)
_EVENT = struct.Struct("=HI")
_ADDRESSES = itertools.count()
_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_WATCHED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED | _FAILED)
_Options: TypeAlias = Iterator[tuple[int, int | bytes]]


class Handshake(enum.Enum):
    """What a handshake came to, as the connecting side learns it."""

    DONE = "done"
    UNKNOWN = "unknown"
    REVOKED = "revoked"
    MISMATCH = "mismatch"
    CUT = "cut"
    """The other side hung up and said nothing: it has another key, or could not judge ours."""


_OnHandshake: TypeAlias = Callable[[Handshake, int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerGuard:
    """A broker's. ``secret`` is its key, in Z85; empty leaves tcp without CURVE."""

    secret: str = field(default="", repr=False)

    def options(self, endpoint: str, attempt: int = 0) -> _Options:
        """What to set before the bind to ``endpoint``."""
        curve = bool(self.secret) and endpoint.startswith("tcp://")
        yield zmq.ZAP_DOMAIN, DOMAIN.encode()
        yield zmq.ZAP_ENFORCE_DOMAIN, 1
        yield zmq.CURVE_SERVER, int(curve)
        if curve:
            yield zmq.CURVE_SECRETKEY, self.secret.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientGuard:
    """A peer's: both sides of its key and the keys that its broker may have, all in Z85."""

    public: str
    secret: str = field(repr=False)
    servers: tuple[str, ...]

    def options(self, endpoint: str, attempt: int) -> _Options:
        """What to set before the connect to ``endpoint``; attempts go round the servers."""
        if endpoint.startswith("tcp://"):
            yield zmq.CURVE_PUBLICKEY, self.public.encode()
            yield zmq.CURVE_SECRETKEY, self.secret.encode()
            yield zmq.CURVE_SERVERKEY, self.servers[attempt % len(self.servers)].encode()


class _User(NamedTuple):
    """Who a connection is, and its descriptor, -1 if ZeroMQ does not say."""

    name: str = _NOBODY
    descriptor: int = -1


class Users:
    """Who the connections of one socket are, by routing id, and which of them were heard.

    A message whose routing id is not in ``heard`` is to be noted. Those of a PULL have none.
    """

    __slots__ = ("_called", "_known", "heard")

    def __init__(self) -> None:
        self._known: dict[bytes, _User] = {}
        self._called: set[int] = set()
        self.heard: set[bytes] = set()

    def note(self, peer: bytes, frame: zmq.Frame) -> None:
        """``frame`` came from there. The oldest are forgotten, and noted again if need be."""
        if not peer:
            self._called.add(_descriptor(frame))
            return
        chosen_here = peer[:1] == b"\0"
        user = self._known.get(peer) if chosen_here else None
        if user is None:
            self._known.pop(peer, None)
            user = self._known[peer] = _User(_name(frame), _descriptor(frame))
            if len(self._known) > _USERS_MAX:
                del self._known[next(iter(self._known))]
        self._called.add(user.descriptor)
        if chosen_here:
            if len(self.heard) >= _USERS_MAX:
                self.heard.clear()
            self.heard.add(peer)

    def of(self, peer: bytes) -> str:
        """The user id; that of nobody if none was said."""
        return self._known.get(peer, _User()).name

    def descriptor_of(self, peer: bytes) -> int:
        """The descriptor of the connection that this routing id had when it was noted; or -1."""
        return self._known.get(peer, _User()).descriptor

    def take(self) -> set[int]:
        """The descriptors of those that were heard since the last time."""
        called, self._called = self._called, set()
        self.heard.clear()
        return called


def _name(frame: zmq.Frame) -> str:
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return _NOBODY


def _descriptor(frame: zmq.Frame) -> int:
    try:
        return int(frame.get(_SRCFD))
    except zmq.ZMQError:
        return -1


class Watch:
    """Hears what became of the handshakes of a socket that is about to connect."""

    __slots__ = ("_attempt", "_events", "_on_handshake", "_watched", "descriptor", "is_open")

    def __init__(
        self, context: Context, socket: Socket, attempt: int, on_handshake: _OnHandshake
    ) -> None:
        address = f"inproc://zbus.watch.{next(_ADDRESSES)}"
        self._watched = socket
        self._attempt = attempt
        self._on_handshake = on_handshake
        socket.monitor(address, _WATCHED)
        self._events = Socket(context, zmq.PAIR)
        self._events.set(zmq.LINGER, 0)
        self._events.connect(address)
        self.descriptor = int(self._events.get(zmq.FD))
        self.is_open = True
        """Whether it still watches: until the first handshake that succeeds."""

    def hear(self) -> None:
        """Pass on what has happened since the last time."""
        with suppress(zmq.Again):
            while self.is_open:
                event, value = _EVENT.unpack(bytes(self._events.recv(zmq.NOBLOCK))[:6])
                self._events.recv(zmq.NOBLOCK)
                handshake = _meaning(event, value)
                if handshake is Handshake.DONE:
                    self._stop()
                if handshake is not None:
                    self._on_handshake(handshake, self._attempt)

    def close(self) -> None:
        """Watch no longer; the socket goes on."""
        self._stop()
        self._events.close(0)

    def _stop(self) -> None:
        if self.is_open:
            self.is_open = False
            with suppress(zmq.ZMQError):
                self._watched.monitor(None, 0)


class Gate:
    """The security of a network's sockets; one without a guard lets everything pass.

    ``attempt`` says which of the broker's keys is tried next. ``on_handshake`` hears, from within
    a drain, what became of handshakes over tcp, and with which attempt.
    """

    def __init__(
        self,
        guard: ServerGuard | ClientGuard | None = None,
        on_handshake: _OnHandshake | None = None,
    ) -> None:
        self.attempt = 0
        self._guard = guard
        self._on_handshake = on_handshake

    @property
    def asks(self) -> bool:
        """Whether those who connect here are known by what they proved."""
        return isinstance(self._guard, ServerGuard)

    def monitor(self, context: Context, socket: Socket) -> Monitor | None:
        """What hears of the connections of this socket, which is about to be bound."""
        return Monitor(context, socket) if self.asks else None

    def prepare(self, socket: Socket, endpoint: str) -> None:
        """Set what counts for the bind or connect that follows."""
        if self._guard is not None:
            for option, value in self._guard.options(endpoint, self.attempt):
                socket.set(option, value)

    def watch(self, context: Context, socket: Socket, endpoint: str) -> Watch | None:
        """What hears of the handshakes of this socket, which is about to connect over tcp."""
        if self._on_handshake is None or not endpoint.startswith("tcp://"):
            return None
        return Watch(context, socket, self.attempt, self._on_handshake)


def _meaning(event: int, value: int) -> Handshake | None:
    if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
        return Handshake.DONE
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return Handshake.REVOKED if value == 500 else Handshake.UNKNOWN
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return Handshake.CUT
    if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
        return Handshake.MISMATCH
    return None
