"""What a machine wants done: effects, as values.

A machine never does; it returns these, and the shell that turns it carries them out. Two
machines given the same messages at the same times return equal effects, which is what makes
the simulator's traces repeat byte for byte.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from zbus.errors import ZbusError
from zbus.protocol.message import Frames, Key, Parcel, Request, Welcome

__all__ = [
    "Abandon",
    "Asked",
    "Attached",
    "BrokerEffect",
    "Detached",
    "Ended",
    "Happened",
    "Lane",
    "LaneKey",
    "Outcome",
    "Progress",
    "Reconnect",
    "Resolve",
    "Route",
    "Send",
    "SessionEffect",
    "Start",
    "Take",
    "Told",
]


class Lane(enum.IntEnum):
    """Which socket. The first three are the broker's, the last two a peer's."""

    FRONTEND = 0
    BACKEND = 1
    PIPE = 2
    BROKER = 3
    PUSH = 4


class Route(NamedTuple):
    """Where a message came from or goes to: a lane and, on a ROUTER, the routing id.

    A routing id is an opaque handle: never logged, never parsed, never identity.
    """

    lane: Lane
    peer: bytes = b""


class Send(NamedTuple):
    """Say this. The shell groups what goes to one route into one message."""

    to: Route
    parcel: Parcel


class Happened(NamedTuple):
    """Something an operator may want to read; the shell logs or counts it."""

    event: str
    fields: tuple[tuple[str, str | int | float], ...] = ()


class Asked(NamedTuple):
    """(broker) A peer asks the broker itself, on a topic below ``zbus.``; answer with
    ``Broker.answer`` or ``Broker.refuse``."""

    key: Key
    topic: str


class Reconnect(NamedTuple):
    """(peer) Throw the sockets away, with all that is queued in them, and open new ones."""


class Attached(NamedTuple):
    """(peer) The broker took us in; ``welcome.pipe`` is where pushes go."""

    welcome: Welcome


class Detached(NamedTuple):
    """(peer) The broker is lost; the session goes on trying."""

    why: str


class Ended(NamedTuple):
    """(peer) The session is over for good: closed, superseded or refused."""

    error: ZbusError


Outcome: TypeAlias = Parcel | ZbusError
"""How a request ended: the parcel of its Reply, or the error."""


class Resolve(NamedTuple):
    """(peer) Request ``number`` of ours ended, once and for good (promise P1)."""

    number: int
    outcome: Outcome


class Start(NamedTuple):
    """(peer) Run the handler for this request; at most once per key (promise P5)."""

    key: Key
    request: Request
    frames: Frames
    deadline: float

    def __repr__(self) -> str:
        return f"Start({self.request!r}, frames={len(self.frames)}, deadline={self.deadline})"


class Abandon(NamedTuple):
    """(peer) The caller of a started request gave up; show it to the handler."""

    key: Key


class Progress(NamedTuple):
    """How far a large body has come: the ``argument`` of a request, or its ``reply``."""

    of: Literal["argument", "reply"]
    done_bytes: int
    size_bytes: int


class Told(NamedTuple):
    """(peer) Tell whoever asked how far a large body of the request has come."""

    tell: Callable[[Progress], None]
    progress: Progress


class LaneKey(NamedTuple):
    """What orders pushes: one sender, in one life, on one topic."""

    source: str
    epoch: int
    topic: str


class Take(NamedTuple):
    """(peer) Run the handler for these pushes, in order; report with ``Session.taken``.

    ``bodies`` pairs each body with its frames; ``sequence`` numbers the first.
    """

    lane: LaneKey
    sequence: int
    bodies: tuple[tuple[bytes, Frames], ...]

    def __repr__(self) -> str:
        return f"Take({self.lane}, {self.sequence}, <{len(self.bodies)} bodies>)"


SessionEffect: TypeAlias = (
    Send
    | Happened
    | Reconnect
    | Attached
    | Detached
    | Ended
    | Resolve
    | Start
    | Abandon
    | Take
    | Told
)
BrokerEffect: TypeAlias = Send | Happened | Asked
