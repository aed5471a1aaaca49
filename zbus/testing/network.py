"""Ports in memory: one process's view of a ``MemoryFabric``.

Rules of this room:

* A shell cannot tell these from ports over ZeroMQ, but for what it must not do here: sleep. Who
  drives the simulation decides when the process runs.
* No memory is shared: a message is copied when it is accepted.
"""

from __future__ import annotations

from collections.abc import Sequence

from zbus.errors import ClosedError, ConfigError, InternalError
from zbus.protocol.limits import FRAMES_MAX, INLINE_MAX_BYTES
from zbus.testing.fabric import MemoryFabric
from zbus.testing.plug import Kind, Plug
from zbus.transport.port import Frame, Received, Sent

__all__ = ["MemoryNetwork", "MemoryPort"]


class MemoryPort:
    """A port of a ``MemoryNetwork``, which makes it."""

    __slots__ = ("_fabric", "_plug")

    def __init__(self, fabric: MemoryFabric, plug: Plug) -> None:
        self._fabric = fabric
        self._plug = plug

    @property
    def endpoint(self) -> str:
        """See ``Port``."""
        return self._plug.endpoint

    @property
    def is_closed(self) -> bool:
        return self._plug.closed

    def look(self) -> bool:
        """Whether there is something to drain, or room again where there was none. As over
        ZeroMQ, room is told once."""
        plug = self._plug
        if plug.full and plug.connects and self._fabric.has_room(plug):
            plug.full = False
            return True
        return bool(plug.inbox)

    def send(self, peer: bytes, frames: Sequence[Frame]) -> Sent:
        """See ``Port``."""
        if not frames:
            raise ValueError("a message has at least one frame")
        return self._fabric.send(self._plug, peer, [_copied(frame) for frame in frames])

    def drain(self, limit: int) -> list[Received]:
        """See ``Port``."""
        received = self._fabric.drain(self._plug, limit)
        for _, frames in received:
            if len(frames) > FRAMES_MAX + 1:
                frames.clear()
        return received

    def user(self, peer: bytes) -> str:
        """See ``Port``. Nobody is asked here."""
        return ""

    def close(self) -> None:
        """See ``Port``."""
        self._fabric.unplug(self._plug)


class MemoryNetwork:
    """A ``Network`` of the process called ``owner``. A restart of the process makes another."""

    def __init__(self, fabric: MemoryFabric, owner: str) -> None:
        self._fabric = fabric
        self._owner = owner
        self._ports: list[MemoryPort] = []
        self._closed = False

    def bind_router(self, *endpoints: str) -> MemoryPort:
        return self._open(Kind.ROUTER, endpoints)

    def bind_pull(self, *endpoints: str) -> MemoryPort:
        return self._open(Kind.PULL, endpoints)

    def connect_dealer(self, endpoint: str) -> MemoryPort:
        return self._open(Kind.DEALER, (endpoint,))

    def connect_push(self, endpoint: str) -> MemoryPort:
        return self._open(Kind.PUSH, (endpoint,))

    def _open(self, kind: Kind, endpoints: Sequence[str]) -> MemoryPort:
        if self._closed:
            raise ClosedError("this network is closed")
        if not endpoints:
            raise ConfigError("a port that binds needs an endpoint, and none was given")
        port = MemoryPort(self._fabric, self._fabric.plug_in(self._owner, kind, endpoints))
        self._ports = [*(old for old in self._ports if not old.is_closed), port]
        return port

    def readable(self) -> bool:
        """See ``Network``."""
        return any(port.look() for port in self._ports)

    def wait(self, timeout_s: float | None) -> bool:
        """Never: nothing sleeps in a simulation."""
        raise InternalError(f"{self._owner} sleeps in a simulation, for {timeout_s} s")

    def wake(self) -> None:
        """Let the next ``MemoryFabric.advance`` name this process."""
        self._fabric.stir(self._owner)

    def close(self, linger_s: float = 0.0) -> None:
        """See ``Network``. The fabric decides what still leaves."""
        self._closed = True
        for port in self._ports:
            port.close()


def _copied(frame: Frame) -> Frame:
    """As it would come from ZeroMQ: bytes where it is short, else a view of somebody's memory."""
    return bytes(frame) if len(frame) <= INLINE_MAX_BYTES else memoryview(bytearray(frame))
