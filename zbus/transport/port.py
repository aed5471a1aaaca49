"""What a shell needs of a socket, and of the place sockets come from: the two interfaces.

There are two implementations, ``transport.sockets`` over ZeroMQ and ``testing.network`` in
memory, and one abstract suite (``tests/test_ports.py``) that both must pass.

The contract is ZeroMQ's, not TCP's (spec section 2):

* whole messages, in order, per connection; any suffix of what was accepted may vanish when a
  connection ends, and the two sides may learn of it at different times, or only one of them;
* ``send`` never waits. SENT means accepted, not delivered. FULL means a bound is reached, or
  nobody is connected yet: keep it and try again. GONE means that this peer cannot be reached;
* a new connection of the same peer has a new routing id.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol, TypeAlias

__all__ = ["LOCAL", "Frame", "Network", "Port", "Received", "Sent"]

LOCAL = "local"
"""The user of a connection that was let in without a key; no key has five characters."""

Frame: TypeAlias = bytes | memoryview


class Sent(enum.Enum):
    """What became of a message handed to a port."""

    SENT = "sent"
    FULL = "full"
    GONE = "gone"


Received: TypeAlias = tuple[bytes, list[Frame]]
"""A message and the routing id it came from (empty but on a ROUTER)."""


class Port(Protocol):
    """One socket. Used by one thread at a time. Once it is closed, ``send`` says GONE and
    ``drain`` finds nothing."""

    @property
    def endpoint(self) -> str:
        """Where it is bound, at first if it is in several places, or connects to; after a bind
        to tcp port 0, with the real port."""

    def send(self, peer: bytes, frames: Sequence[Frame]) -> Sent:
        """Hand a message over; ``peer`` is the routing id on a ROUTER, else empty.

        The frames may be changed once this has returned, unless they came from a port.
        """

    def drain(self, limit: int) -> list[Received]:
        """At most ``limit`` messages that have arrived, in order; empty when none has.

        After a ``readable`` that saw nothing for this port it may be empty once although
        something has come since, so go by that and not by this. A message of more frames than
        the protocol allows comes as one without frames, which no decoder takes.
        """

    def user(self, peer: bytes) -> str:
        """What the connection with this routing id, of which something was drained, has proved:
        its key, ``LOCAL`` where the authenticator let it in without one, and empty where
        nobody was asked."""

    def close(self) -> None:
        """Close it and drop what is queued. A second call does nothing."""


class Network(Protocol):
    """Where ports come from, and where a shell sleeps.

    An endpoint is a ZeroMQ address, ``ipc:///path`` or ``tcp://host:port``. One that cannot be
    used raises ``ConfigError``, one where somebody listens already ``AlreadyRunning``. A port
    that binds has one endpoint or several, and is bound at all of them or not opened.
    """

    def bind_router(self, *endpoints: str) -> Port: ...

    def bind_pull(self, *endpoints: str) -> Port: ...

    def connect_dealer(self, endpoint: str) -> Port: ...

    def connect_push(self, endpoint: str) -> Port: ...

    def readable(self) -> bool:
        """Whether any port that was touched has something to drain, or has room again after it
        said FULL. One that nobody has touched since it had nothing ends the next ``wait``.

        Must be asked after the last send or drain and before sleeping: either can swallow the
        edge that would have woken us, and there is none before it was asked once. It is also
        where a ROUTER takes note that a connection has ended.
        """

    def wait(self, timeout_s: float | None) -> bool:
        """Sleep until a port may be readable, ``wake`` is called or the time is up; whether a
        port may be readable.

        May return early, so look at the clock. One thread at a time waits; others may use, open
        and close ports meanwhile, but not close the network. Room after FULL mostly ends it
        too, but no event tells surely of room for one connection of a ROUTER: try that again
        now and then.
        """

    def wake(self) -> None:
        """End a ``wait`` in another thread, now or the next one. Callable from any thread, and
        from a signal's handler."""

    def close(self, linger_s: float = 0.0) -> None:
        """Close every port and leave nothing behind. What was handed over to connections that
        stand has ``linger_s`` to leave. A second call does nothing."""
