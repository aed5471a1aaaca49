"""What a socket that is bound says of its connections: accepted, ended, refused.

Rules of this room:

* Events that nobody reads would hold up ZeroMQ's own thread, and with it the whole broker. So
  they wait here without a mark: the thread that sends them never waits for the one that hears.
* ZeroMQ says ENDED before it closes the descriptor. Whoever holds a copy of a descriptor and then
  hears nothing of its end has the connection that it means, and no later one with its number.
* A monitor ends before its socket does, else the event of that end waits for a reader for ever.
"""

from __future__ import annotations

import enum
import itertools
import struct
from contextlib import suppress
from typing import NamedTuple

import zmq
from zmq.backend import Context, Socket

__all__ = ["Monitor", "Tiding", "Tidings"]

_EVENT = struct.Struct("=HI")
_ADDRESSES = itertools.count()
_LAST = int(zmq.NOBLOCK)


class Tiding(enum.Enum):
    """What has happened to a connection."""

    ACCEPTED = "accepted"
    ENDED = "ended"
    NOT_ACCEPTED = "not_accepted"
    """The system had no descriptor or memory for it."""
    REFUSED = "refused"
    """Its handshake came to nothing: no ZeroMQ, no key, or too late."""


_TIDINGS = {
    int(zmq.EVENT_ACCEPTED): Tiding.ACCEPTED,
    int(zmq.EVENT_DISCONNECTED): Tiding.ENDED,
    int(zmq.EVENT_ACCEPT_FAILED): Tiding.NOT_ACCEPTED,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): Tiding.REFUSED,
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): Tiding.REFUSED,
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): Tiding.REFUSED,
}
_WATCHED = sum(_TIDINGS)


class Tidings(NamedTuple):
    """One event. ``value`` is the connection's descriptor where it was accepted or has ended,
    and an error number otherwise; ``endpoint`` is where it came in."""

    tiding: Tiding
    value: int
    endpoint: str


class Monitor:
    """Hears of the connections of a socket that is about to be bound."""

    __slots__ = ("_events", "_is_open", "_watched", "descriptor")

    def __init__(self, context: Context, socket: Socket) -> None:
        address = f"inproc://zbus.monitor.{next(_ADDRESSES)}"
        self._watched = socket
        socket.monitor(address, _WATCHED)
        self._events = Socket(context, zmq.PAIR)
        self._events.set(zmq.LINGER, 0)
        self._events.set(zmq.RCVHWM, 0)
        self._events.connect(address)
        self._events.get(zmq.EVENTS)  # before it is asked once, the descriptor tells nothing
        self._is_open = True
        self.descriptor = int(self._events.get(zmq.FD))
        """Can be read when there is something to hear, once all that there was has been heard."""

    def hear(self) -> list[Tidings]:
        """All that has happened since the last time, in order."""
        heard: list[Tidings] = []
        with suppress(zmq.Again):
            while self._is_open:
                number, value = _EVENT.unpack(bytes(self._events.recv(_LAST))[:6])
                endpoint = bytes(self._events.recv(_LAST)).decode("ascii", "replace")
                if number in _TIDINGS:
                    heard.append(Tidings(_TIDINGS[number], value, endpoint))
        return heard

    def close(self) -> None:
        """Hear no longer; the socket goes on. A second call does nothing."""
        if self._is_open:
            self._is_open = False
            with suppress(zmq.ZMQError):
                self._watched.monitor(None, 0)
            self._events.close(0)
