"""The connections of a broker, what each has cost, and which of them are to be cut (P13).

    why        cut is a connection
    endless    whose message does not end: it has brought more than any message may have
    hoard      that has said nothing yet and holds most, while all such together hold too much
    stalled    that has begun its first message on the pipe and does not go on
    silent     that came for an attachment and has none, long after it came or lost it
    crowd      that has been silent longest, or unattached, while there are too many connections
    condemned  whose messages were no messages, once it has had time to hear so

Rules:

* Pure: descriptors, counts and instants come in, verdicts go out. ``now`` is a monotonic time in
  seconds; a step of more than ``_STEP_MAX_S`` counts as that much, so that a broker that was
  itself stopped blames nobody (promise P11).
* A verdict needs no message, and no count of what messages hold. What a connection has brought
  since it last had something delivered belongs to one unfinished message, if the port has nothing
  more to deliver, or has passed everybody else by since.
* What it brought between that delivery and the look that follows is not seen, so a connection
  can hold that much more. Whoever brings much is looked at by the next hundredth of a second,
  strangers four times a second, and everybody once.
* What a connection of this machine brings is not counted by the kernel (ipc), or can take many
  times its size (tcp without a key, where an empty frame has two bytes and takes 64). One of them
  is endless as well if something came at ``_ARRIVALS`` looks, nothing was delivered, and this
  process has grown meanwhile by more than a message can explain.
* Whoever delivers in time and is attached is never cut, whatever others do, unless all the
  connections there may be are such.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

__all__ = ["Bounds", "Connection", "Ledger", "Why"]

_STEP_MAX_S = 0.5
_GRACE_S = 0.25
"""From the first look at which a connection is overdue to its end: what it said meanwhile may
still be on its way to us. Also what a condemned one has, to hear why."""
_ARRIVALS = 3
_PASSED_BY = 1_024
"""Messages beyond one for each connection, after which whoever had one to deliver has done so."""
_HANDSHAKE_BYTES = 4_096
"""A handshake has fewer."""


class Why(enum.Enum):
    """Why a connection is cut; see above."""

    ENDLESS = "endless"
    HOARD = "hoard"
    STALLED = "stalled"
    SILENT = "silent"
    CROWD = "crowd"
    CONDEMNED = "condemned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What connections may cost. ``unread_bytes``: one, in an unfinished message.
    ``strangers_bytes``: all together that have said nothing yet. ``growth_bytes``: what the process
    may grow by while something comes from one of this machine and nothing of it is delivered."""

    connections: int
    unread_bytes: int
    strangers_bytes: int
    hello_s: float
    growth_bytes: int


@dataclass(slots=True, eq=False)
class Connection:
    """One connection, from its accept to its end.

    ``greets`` says that it has to become a peer's (it does not on the pipe), ``is_near`` that it
    is of this machine, ``is_counted`` that the kernel counts what it brings. That is ``taken``;
    ``base`` is what it was when the unfinished message began, None if that was not seen yet, and
    ``unread`` what has come since. ``arrivals`` and ``size`` are the same for one that is near:
    looks at which something had come, and the process at the first.
    """

    descriptor: int
    door: int
    greets: bool
    is_near: bool
    is_counted: bool
    since: float
    mark: int
    unread: int = 0
    taken: int = 0
    base: int | None = 0
    is_stranger: bool = True
    is_peer: bool = False
    is_leaving: bool = False
    overdue: float | None = None
    leaves_at: float | None = None
    origin: str = ""
    arrivals: int = 0
    size: int = 0
    heard_in: int = 0


class Ledger:
    """All connections, by descriptor."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._connections: dict[int, Connection] = {}
        self._strangers: dict[Connection, None] = {}
        self._waiting: dict[Connection, None] = {}
        self._peers: set[int] = set()
        self._endless: dict[Connection, Why] = {}
        self._staying = 0
        self._held = 0
        self._round = 1
        self._clock = 0.0
        self._now: float | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def at(self, descriptor: int) -> Connection | None:
        """The connection that has this descriptor now."""
        return self._connections.get(descriptor)

    @property
    def held_bytes(self) -> int:
        """What all that have said nothing yet have brought."""
        return self._held

    @property
    def is_watching(self) -> bool:
        """Whether time alone may bring a verdict."""
        return bool(self._waiting)

    # -- what happens --------------------------------------------------------------------------

    def turn(self, now: float) -> None:
        """It is now."""
        if self._now is not None:
            self._clock += min(max(now - self._now, 0.0), _STEP_MAX_S)
        self._now = now

    def accepted(
        self, descriptor: int, door: int, delivered: int, *, greets: bool, near: bool, tcp: bool
    ) -> Connection:
        """A connection has come in. ``delivered`` messages have been delivered until now, over
        all connections."""
        self.ended(descriptor)
        connection = Connection(descriptor, door, greets, near, tcp, self._clock, delivered)
        self._connections[descriptor] = connection
        self._strangers[connection] = None
        self._waiting[connection] = None
        self._staying += 1
        return connection

    def ended(self, descriptor: int) -> None:
        """It is no more."""
        connection = self._connections.pop(descriptor, None)
        if connection is not None:
            self._known(connection)
            self._waiting.pop(connection, None)
            self._endless.pop(connection, None)
            self._staying -= not connection.is_leaving
            self._peers.discard(descriptor)

    def heard(self, descriptor: int, delivered: int) -> None:
        """Something that this connection brought has been delivered since the last look."""
        connection = self._connections.get(descriptor)
        if connection is not None:
            self._known(connection)
            connection.base = None
            connection.unread = connection.arrivals = 0
            connection.mark = delivered
            connection.heard_in = self._round
            self._endless.pop(connection, None)
            if not connection.greets:
                self._waiting.pop(connection, None)

    def saw(
        self, connection: Connection, taken: int | None, size: int, delivered: int, idle: bool
    ) -> bool:
        """A look at a connection that has not been heard since the last one.

        ``taken``: bytes that it has brought, None if not counted; ``size``: bytes that this
        process has. ``idle``: its port had nothing to deliver afterwards. False if nothing
        follows from that yet, and it is to be looked at again.
        """
        passed_by = delivered - connection.mark > len(self._connections) + _PASSED_BY
        if connection.is_leaving:
            return True
        if not idle and not passed_by:
            return False
        if connection.is_near and taken != connection.taken:
            self._saw_near(connection, size)
        if taken is not None:
            self._saw_taken(connection, taken)
        return True

    def _saw_taken(self, connection: Connection, taken: int) -> None:
        connection.taken = taken
        if connection.base is None:
            connection.base = taken
        unread = max(taken - connection.base, 0)
        if connection.is_stranger:
            self._held += unread - connection.unread
            if not connection.greets and unread != connection.unread:
                connection.since, connection.overdue = self._clock, None
        connection.unread = unread
        if unread > self._bounds.unread_bytes:
            self._endless[connection] = Why.ENDLESS

    def _saw_near(self, connection: Connection, size: int) -> None:
        if not connection.arrivals:
            connection.size = size
        connection.arrivals += 1
        grown = size - connection.size
        if connection.arrivals >= _ARRIVALS and grown > self._bounds.growth_bytes:
            self._endless[connection] = Why.ENDLESS

    def strangers(self) -> list[Connection]:
        """All that the kernel counts and that have said nothing yet."""
        return [connection for connection in self._strangers if connection.is_counted]

    def unheard(self) -> list[Connection]:
        """All that the kernel counts and that have not been heard since the last time."""
        found = [
            connection
            for connection in self._connections.values()
            if connection.is_counted and connection.heard_in < self._round
        ]
        self._round += 1
        return found

    def attached(self, descriptors: AbstractSet[int]) -> None:
        """These are the connections of the peers that are attached now, and no others."""
        for descriptor in descriptors - self._peers:
            if (connection := self._connections.get(descriptor)) is not None:
                connection.is_peer = True
                if connection.leaves_at is None:
                    self._waiting.pop(connection, None)
        for descriptor in self._peers - descriptors:
            if (connection := self._connections.get(descriptor)) is not None:
                connection.is_peer = False
                connection.since, connection.overdue = self._clock, None
                if not connection.is_leaving:
                    self._waiting[connection] = None
        self._peers = self._connections.keys() & descriptors

    def condemn(self, descriptor: int) -> None:
        """What it sends are no messages; it is told so, and then cut."""
        connection = self._connections.get(descriptor)
        if connection is None or connection.is_leaving or connection.leaves_at is not None:
            return
        connection.leaves_at = self._clock + _GRACE_S
        self._waiting[connection] = None

    # -- verdicts ------------------------------------------------------------------------------

    def verdicts(self) -> Iterator[tuple[Connection, Why]]:
        """Whom to cut now; each is said once."""
        while self._endless:
            yield self._leave(*self._endless.popitem())
        while self._held > self._bounds.strangers_bytes:
            most = max(self._strangers, key=lambda connection: connection.unread)
            yield self._leave(most, Why.HOARD)
        while self._staying > self._bounds.connections:
            stranger = next(iter(self._strangers), None)
            idler = next(iter(self._waiting), None)
            yield self._leave(stranger or idler or self._newest(), Why.CROWD)

    def overdue(self, company: AbstractSet[int]) -> Iterator[tuple[Connection, Why]]:
        """Whose time is up; each is said once. ``company`` are connections of the pipe whose
        owner has one that is attached; they may be silent."""
        for connection in list(self._waiting):
            why = self._overdue(connection, company) if connection in self._waiting else None
            if why is not None:
                yield self._leave(connection, why)

    def silent_on_pipe(self) -> list[Connection]:
        """Those of whom ``company`` is of interest: soon they would be cut."""
        return [
            connection
            for connection in self._waiting
            if not connection.greets and self._is_late(connection)
        ]

    def _overdue(self, connection: Connection, company: AbstractSet[int]) -> Why | None:
        if connection.leaves_at is not None:
            return Why.CONDEMNED if self._clock >= connection.leaves_at else None
        if not self._is_late(connection):
            return None
        stalled = connection.is_stranger and connection.unread > _HANDSHAKE_BYTES
        if not connection.greets and not stalled and connection.descriptor in company:
            connection.overdue = None
            return None
        if connection.overdue is None:
            connection.overdue = self._clock + _GRACE_S
        if self._clock < connection.overdue:
            return None
        return Why.SILENT if connection.greets or not stalled else Why.STALLED

    def _is_late(self, connection: Connection) -> bool:
        return self._clock - connection.since >= self._bounds.hello_s

    def _leave(self, connection: Connection, why: Why) -> tuple[Connection, Why]:
        self._known(connection)
        self._waiting.pop(connection, None)
        self._staying -= not connection.is_leaving
        connection.is_leaving = True
        return connection, why

    def _known(self, connection: Connection) -> None:
        """It counts among the strangers no longer."""
        if connection.is_stranger:
            connection.is_stranger = False
            self._held -= connection.unread
        self._strangers.pop(connection, None)

    def _newest(self) -> Connection:
        staying = (each for each in reversed(self._connections.values()) if not each.is_leaving)
        return next(staying)
