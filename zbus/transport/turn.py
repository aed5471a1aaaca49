"""The turn: drain every port, tick, carry out, flush. The one loop body of the bus.

It is the same for a broker and for a peer, over ZeroMQ and in the simulator. Rules:

* Drain before you judge: what has arrived is heard before ``tick`` looks at the time (spec 8.4).
* A turn has one ``now``: everything in it happened at the same instant.
* What became ready together leaves together: parcels are grouped by route, and a route's parcels
  are one message unless they are too much for one (spec 2.3). A lone parcel leaves at once.
* ``send`` never waits. A full port's messages are kept, in order, up to a bound, and tried again;
  an unreachable route is told to the machine; a route beyond the bound is cut.
* The time for which a request was kept here is taken off what is left of it (spec 6.2), so that a
  full port does not make the handler's side begin what is too late (P2).
* A port that is thrown away takes with it what was drained from it and not heard, and what was
  to be sent and is not (spec 5.6).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from zbus.errors import Malformed
from zbus.protocol.codec import decode, encode
from zbus.protocol.effect import Lane, Route, Send
from zbus.protocol.limits import (
    BATCH_ITEMS_MAX,
    BATCH_MAX_BYTES,
    FRAMES_MAX,
    HEADER_MAX_BYTES,
)
from zbus.protocol.message import Parcel, Push, Reply, Request, with_ttl
from zbus.transport.port import Frame, Port, Sent

__all__ = ["Machine", "Owner", "Turn"]

_DRAIN_MAX = 256
"""Messages taken from one port in one turn, so that no port starves another."""
_RETRY_MIN_S = 0.001
_RETRY_MAX_S = 0.05

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)
E_contra = TypeVar("E_contra", contravariant=True)


class Machine(Protocol[E_co]):
    """What a turn turns; see ``protocol.session`` and ``protocol.broker``."""

    def receive(self, route: Route, parcels: Iterable[Parcel], now: float) -> Iterable[E_co]: ...

    def tick(self, now: float) -> Iterable[E_co]: ...

    def wake_at(self) -> float | None: ...


class Owner(Protocol[E_contra]):
    """Who carries out what a turn does not: every effect but ``Send``, and what ports report."""

    def carry(self, effect: E_contra, now: float) -> None:
        """Carry out an effect."""

    def malformed(self, route: Route, error: Malformed, now: float) -> None:
        """Somebody sent what is no message."""

    def unreachable(self, route: Route, now: float) -> None:
        """The port says that this route is gone."""

    def overflowed(self, route: Route, now: float) -> None:
        """More waits for this route than may wait; what waited has been dropped."""


class _Said(NamedTuple):
    """A message, and what it says where that grows old. While it is kept, it is one or the
    other, so that no body is in memory twice."""

    frames: list[Frame]
    requests: list[Parcel]
    since: float

    def __repr__(self) -> str:
        return f"_Said(<{len(self.frames)} frames>, since={self.since})"

    def aged(self, now: float) -> list[Frame]:
        """The message as it is to be said now; empty if all that it says is too late."""
        if not self.requests:
            return self.frames
        held_ms = int((now - self.since) * 1000.0)
        parcels = [aged for parcel in self.requests if (aged := _aged(parcel, held_ms))]
        return encode(parcels) if parcels else []


@dataclass(slots=True)
class _Stuck:
    """Messages that a full port did not take, each with its size; how much that is, and how many
    it has taken since."""

    messages: deque[tuple[_Said, int]] = field(default_factory=deque)
    size: int = 0
    taken: int = 0


class Turn(Generic[E]):
    """One machine over its ports."""

    def __init__(self, machine: Machine[E], owner: Owner[E], outbox_bytes: int) -> None:
        self.ports: dict[Lane, Port] = {}
        self._machine = machine
        self._owner = owner
        self._outbox_bytes = outbox_bytes
        self._pending: dict[Route, list[Parcel]] = {}
        self._stuck: dict[Route, _Stuck] = {}
        self._retry_s = _RETRY_MIN_S
        self.received = 0

    def once(self, now: float) -> bool:
        """One turn; whether a port may have more to drain at once."""
        more = False
        for lane, port in list(self.ports.items()):
            received = port.drain(_DRAIN_MAX)
            self.received += len(received)
            more = more or len(received) == _DRAIN_MAX
            for peer, frames in received:
                self._receive(Route(lane, peer), frames, now)
                if self.ports.get(lane) is not port:
                    break
        self.perform(self._machine.tick(now), now)
        self.flush(now)
        return more

    def wake_at(self, now: float) -> float | None:
        """When the next turn is due, if nothing arrives before."""
        due = self._machine.wake_at()
        if not self._stuck:
            return due
        retry = now + self._retry_s
        return retry if due is None else min(due, retry)

    def perform(self, effects: Iterable[E], now: float) -> None:
        """Carry out effects; what is to be sent waits for ``flush``."""
        for effect in effects:
            if isinstance(effect, Send):
                pending = self._pending.get(effect.to)
                if pending is None:
                    self._pending[effect.to] = [effect.parcel]
                else:
                    pending.append(effect.parcel)
            else:
                self._owner.carry(effect, now)

    def flush(self, now: float) -> None:
        """Hand over everything that is to be sent."""
        if self._stuck:
            self._retry(now)
        while self._pending:
            pending, self._pending = self._pending, {}
            ports = self.ports.copy()
            for route, parcels in pending.items():
                for frames, said in _messages(parcels):
                    if self.ports.get(route.lane) is ports.get(route.lane):
                        self._send(route, _Said(frames, said, now))

    def forget(self, lane: Lane) -> None:
        """Drop whatever waits for a lane: its ports are being thrown away."""
        for route in [route for route in self._pending if route.lane is lane]:
            del self._pending[route]
        for route in [route for route in self._stuck if route.lane is lane]:
            del self._stuck[route]

    def waiting(self) -> dict[Route, tuple[int, int]]:
        """What waits for full routes: how many bytes, and how many messages have left since."""
        return {route: (stuck.size, stuck.taken) for route, stuck in self._stuck.items()}

    def drop(self, route: Route) -> None:
        """Drop what waits for a route that was full."""
        self._stuck.pop(route, None)

    def is_empty(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._pending and not self._stuck

    def _receive(self, route: Route, frames: list[Frame], now: float) -> None:
        try:
            parcels = decode(frames)
        except Malformed as error:
            self._owner.malformed(route, error, now)
            return
        self.perform(self._machine.receive(route, parcels, now), now)

    def _send(self, route: Route, said: _Said) -> None:
        if route in self._stuck:
            self._keep(route, said)
            return
        sent = self._hand_over(route, said.frames)
        if sent is Sent.FULL:
            self._keep(route, said)
        elif sent is Sent.GONE:
            self._owner.unreachable(route, said.since)

    def _hand_over(self, route: Route, frames: list[Frame]) -> Sent:
        port = self.ports.get(route.lane)
        if port is None:
            return Sent.GONE
        return port.send(route.peer, frames) if frames else Sent.SENT

    def _keep(self, route: Route, said: _Said) -> None:
        stuck = self._stuck.setdefault(route, _Stuck())
        size = sum(map(len, said.frames))
        stuck.messages.append((said._replace(frames=[]) if said.requests else said, size))
        stuck.size += size
        if stuck.size > self._outbox_bytes:
            del self._stuck[route]
            self._owner.overflowed(route, said.since)

    def _retry(self, now: float) -> None:
        moved = False
        for route, stuck in list(self._stuck.items()):
            if self._stuck.get(route) is not stuck:
                continue  # its lane was forgotten meanwhile
            while stuck.messages:
                sent = self._hand_over(route, stuck.messages[0][0].aged(now))
                if sent is not Sent.SENT:
                    break
                moved = True
                stuck.size -= stuck.messages.popleft()[1]
                stuck.taken += 1
            else:
                sent = Sent.SENT
            if sent is not Sent.FULL:
                self._stuck.pop(route, None)
            if sent is Sent.GONE:
                self._owner.unreachable(route, now)
        self._retry_s = _RETRY_MIN_S if moved else min(self._retry_s * 2, _RETRY_MAX_S)


def _messages(parcels: list[Parcel]) -> Iterable[tuple[list[Frame], list[Parcel]]]:
    """The messages that say this, each with its parcels if there is a request among them."""
    if len(parcels) == 1:
        yield encode(parcels), parcels if type(parcels[0].item) is Request else []
        return
    batch: list[Parcel] = []
    size = frames = 0
    for parcel in parcels:
        parcel_size = _size(parcel)
        if batch and (
            size + parcel_size > BATCH_MAX_BYTES
            or frames + len(parcel.frames) > FRAMES_MAX
            or len(batch) >= BATCH_ITEMS_MAX
        ):
            yield from _encoded(batch)
            batch, size, frames = [], 0, 0
        batch.append(parcel)
        size += parcel_size
        frames += len(parcel.frames)
    yield from _encoded(batch)


def _encoded(parcels: list[Parcel]) -> Iterable[tuple[list[Frame], list[Parcel]]]:
    # Names and texts are not weighed beforehand: should they be too much for one header, halves.
    message = encode(parcels)
    if len(message[0]) <= HEADER_MAX_BYTES or len(parcels) == 1:
        grows_old = any(type(parcel.item) is Request for parcel in parcels)
        yield message, parcels if grows_old else []
        return
    half = len(parcels) // 2
    yield from _encoded(parcels[:half])
    yield from _encoded(parcels[half:])


def _aged(parcel: Parcel, held_ms: int) -> Parcel | None:
    item = parcel.item
    if type(item) is not Request:
        return parcel
    left_ms = item.ttl_ms - held_ms
    return Parcel(with_ttl(item, left_ms), parcel.frames) if left_ms > 0 else None


def _size(parcel: Parcel) -> int:
    item = parcel.item
    if isinstance(item, Request | Reply):
        size = len(item.body)
    elif isinstance(item, Push):
        size = sum(map(len, item.bodies))
    else:
        size = 64
    return size + sum(map(len, parcel.frames)) if parcel.frames else size
