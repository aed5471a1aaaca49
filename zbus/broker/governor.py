"""Looks after the broker's connections, and cuts those that cost more than they may (P13).

Rules of this room:

* It looks only while something comes in, every ``_LOOK_S``, and has the kernel wake it otherwise.
  At a look it asks about no connection but those of which ZeroMQ has something to read just then
  and that had nothing delivered, so that honest traffic costs next to nothing.
* That is whoever brings much. What comes little by little is mostly read before anybody looks:
  to see that, a few others have their turn at each look, strangers first.
* Everything is done between two turns of the broker, in its thread. What has been delivered is
  therefore known before a look, and what has not, cannot be delivered while one is judged.
* Before a connection is cut it is held, and its end is listened for: a descriptor is a number,
  which may be another connection's by now.
* The judgement is the ``Ledger``'s. A cut is counted under ``cut_`` and its reason, among the
  events of the status.
"""

from __future__ import annotations

import logging
import select
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress

from zbus.broker.daemon import Daemon
from zbus.broker.descriptors import connections_max
from zbus.broker.ledger import Bounds, Connection, Ledger, Why
from zbus.broker.settings import Settings
from zbus.protocol.effect import Lane
from zbus.protocol.limits import HEADER_MAX_BYTES
from zbus.transport.grip import Footprint, Grip
from zbus.transport.monitor import Tiding, Tidings
from zbus.transport.profile import FRAME_MARGIN_BYTES
from zbus.transport.sockets import ZmqNetwork, ZmqPort

__all__ = ["Governor"]

_LOOK_S = 0.01
_JUDGE_S = 0.25
_TELL_S = 1.0
_EVERYBODY = 4
"""Judgements from one at which everybody's turn comes to the next."""
_TURN_MAX = 64
_READY_MAX = 1_024
_GROWTH_BYTES = 16_777_216
"""This process may grow by so much for other reasons while a message comes in."""
_EDGE = select.EPOLLIN | select.EPOLLET
_logger = logging.getLogger("zbus.broker")


class Governor:
    """Of the connections of this daemon, whose ports are open.

    The process may have so many ``descriptors``. Without a guard on its sockets there is nothing
    to look at, and it does nothing.
    """

    def __init__(
        self, settings: Settings, network: ZmqNetwork, daemon: Daemon, descriptors: int
    ) -> None:
        self._has_key = settings.security.key is not None
        self._network = network
        self._daemon = daemon
        self._counts = daemon.counts
        wanted = settings.governor.connections
        connections = connections_max(wanted, descriptors)
        if connections < wanted:
            fields = {"descriptors": descriptors, "connections": connections, "wanted": wanted}
            _logger.warning("few_descriptors", extra={"fields": fields})
        self.ledger = Ledger(_bounds(settings, connections))
        self._doors = [
            (lane, port)
            for lane, port in daemon.ports.items()
            if isinstance(port, ZmqPort) and port.monitor is not None
        ]
        self._grip = Grip()
        self._footprint = Footprint()
        self._epoll = select.epoll()
        self._again: dict[int, None] = {}
        self._queue: deque[Connection] = deque()
        self._judgements = 0
        self._next_look = 0.0
        self._next_judgement = 0.0
        self._told: Counter[str] = Counter()
        self._next_telling = 0.0
        self._resting = False
        for _, port in self._doors:
            if port.monitor is not None:
                self._epoll.register(port.monitor.descriptor, select.EPOLLIN)
        if self._doors:
            self._rest(True)
        daemon.gauges["connections_max"] = connections

    def wake_at(self) -> float | None:
        """When ``turn`` is next due, if nothing comes in before."""
        if self._doors and (not self._resting or self._queue):
            return self._next_look
        return self._next_judgement if self.ledger.is_watching else None

    def turn(self, now: float) -> None:
        """Look and judge, if it is time to; to be called after every turn of the daemon."""
        if not self._doors:
            return
        if now >= self._next_look:
            self._look(now)
        if now >= self._next_judgement:
            self._judge(now)

    def close(self) -> None:
        """Look no longer; the connections stay. A second call does nothing."""
        if not self._epoll.closed:
            self._rest(False)
            self._epoll.close()
            self._grip.close()
            self._footprint.close()

    # -- looking -------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        ready = {descriptor for descriptor, _ in self._epoll.poll(0.0, _READY_MAX)}
        if not ready and not self._again and not self._queue:
            self._rest(True)
            self._next_look = 0.0
            return
        self._rest(False)
        self._next_look = now if len(ready) == _READY_MAX else now + _LOOK_S
        self.ledger.turn(now)
        heard = self._heard()
        for door, (_, port) in enumerate(self._doors):
            if port.monitor is not None and port.monitor.descriptor in ready:
                self._listen(door)
        self._read((ready | self._again.keys() | self._next_in_turn()) - heard)
        for connection, why in self.ledger.verdicts():
            self._cut(connection, why)
            if why is Why.CROWD:
                self._next_look = now  # they come faster than we look

    def _next_in_turn(self) -> set[int]:
        queue = self._queue
        return {queue.popleft().descriptor for _ in range(min(len(queue), _TURN_MAX))}

    def _rest(self, resting: bool) -> None:
        if resting is not self._resting:
            self._resting = resting
            (self._network.watch if resting else self._network.ignore)(self._epoll.fileno())

    def _heard(self) -> set[int]:
        """Whoever had something delivered since the last look."""
        heard: set[int] = set()
        for _, port in self._doors:
            if port.users is not None:
                heard |= port.users.take()
        for descriptor in heard:
            self.ledger.heard(descriptor, self._daemon.received)
        return heard

    def _listen(self, door: int) -> None:
        """Hear who came in at this door and who has gone."""
        lane, port = self._doors[door]
        for tidings in port.monitor.hear() if port.monitor is not None else ():
            if tidings.tiding is Tiding.ACCEPTED:
                self._accepted(tidings, door, lane)
            elif tidings.tiding is Tiding.ENDED:
                self.ledger.ended(tidings.value)
            else:
                self._counts[f"connection_{tidings.tiding.value}"] += 1

    def _accepted(self, tidings: Tidings, door: int, lane: Lane) -> None:
        tcp = tidings.endpoint.startswith("tcp://")
        self.ledger.accepted(
            tidings.value,
            door,
            self._daemon.received,
            greets=lane is not Lane.PIPE,
            near=not (tcp and self._has_key),
            tcp=tcp,
        )
        with suppress(OSError):  # it may be closed by now, as we are about to hear
            self._watch(tidings.value)

    def _watch(self, descriptor: int) -> None:
        try:
            self._epoll.register(descriptor, _EDGE)
        except FileExistsError:
            self._epoll.modify(descriptor, _EDGE)

    def _read(self, descriptors: set[int]) -> None:
        """Ask the kernel about these, and then the ports whether they have more to deliver."""
        self._again.clear()
        seen = []
        for descriptor in descriptors:
            connection = self.ledger.at(descriptor)
            if connection is not None and self._grip.hold(descriptor):
                seen.append((connection, self._grip.taken()))
        if not seen:
            return
        self._grip.release()
        idle = [_is_idle(port) for _, port in self._doors]
        delivered = self._daemon.received
        size = self._footprint.size() if any(connection.is_near for connection, _ in seen) else 0
        for connection, taken in seen:
            if not self.ledger.saw(connection, taken, size, delivered, idle[connection.door]):
                self._again[connection.descriptor] = None

    # -- judging -------------------------------------------------------------------------------

    def _judge(self, now: float) -> None:
        self._next_judgement = now + _JUDGE_S
        ledger = self.ledger
        if self._resting:
            ledger.turn(now)
            self._heard()
        self._judgements += 1
        if not self._queue:
            everybody = self._judgements % _EVERYBODY == 0
            self._queue.extend(ledger.unheard() if everybody else ledger.strangers())
        self._daemon.gauges["connections"] = len(ledger)
        peers = {
            self._descriptor(peer.route.lane, peer.route.peer)
            for peer in self._daemon.broker.roster
            if peer.route is not None
        }
        ledger.attached(peers)
        condemned = self._daemon.condemned
        while condemned:
            route = condemned.popleft()
            ledger.condemn(self._descriptor(route.lane, route.peer))
        for connection, why in ledger.overdue(self._company(peers)):
            self._cut(connection, why)
        if now >= self._next_telling:
            self._next_telling = now + _TELL_S
            self._tell()

    def _descriptor(self, lane: Lane, peer: bytes) -> int:
        port = self._daemon.ports.get(lane)
        users = port.users if isinstance(port, ZmqPort) else None
        return -1 if users is None else users.descriptor_of(peer)

    def _company(self, peers: set[int]) -> set[int]:
        """Silent connections of the pipe whose owner is attached."""
        silent = self.ledger.silent_on_pipe()
        if not silent:
            return set()
        attached = (self.ledger.at(descriptor) for descriptor in peers)
        origins = {self._origin(connection) for connection in attached if connection is not None}
        return {
            connection.descriptor for connection in silent if self._origin(connection) in origins
        }

    def _origin(self, connection: Connection) -> str:
        if not connection.origin and self._grip.hold(connection.descriptor):
            connection.origin = self._grip.origin() or "unknown"
            self._grip.release()
        return connection.origin

    # -- cutting -------------------------------------------------------------------------------

    def _cut(self, connection: Connection, why: Why) -> None:
        if not self._grip.hold(connection.descriptor):
            self.ledger.ended(connection.descriptor)
            return
        self._listen(connection.door)
        if self.ledger.at(connection.descriptor) is connection:
            self._counts[f"cut_{why.value}"] += 1
            self._grip.cut()
        self._grip.release()

    def _tell(self) -> None:
        """Say in the log what was cut and refused; in a flood not once for each."""
        for event in list(self._kinds()):
            count = self._counts[event] - self._told[event]
            if count:
                self._told[event] = self._counts[event]
                _logger.warning(event, extra={"fields": {"connections": count}})

    def _kinds(self) -> Iterator[str]:
        yield from (f"cut_{why.value}" for why in Why)
        yield from (f"connection_{tiding.value}" for tiding in Tiding)


def _bounds(settings: Settings, connections: int) -> Bounds:
    limits = settings.governor
    largest = HEADER_MAX_BYTES + settings.bounds.body_max_bytes + FRAME_MARGIN_BYTES
    return Bounds(
        connections=connections,
        unread_bytes=max(limits.unread_bytes, largest),
        strangers_bytes=max(limits.strangers_bytes, largest),
        hello_s=limits.hello_s,
        growth_bytes=largest + _GROWTH_BYTES,
    )


def _is_idle(port: ZmqPort) -> bool:
    port.events()
    return port.quiet
