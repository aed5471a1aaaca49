"""The parts of a simulated network: sockets, both sides of a connection, messages under way.

They hold state and no rules; ``testing.fabric`` has those.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from zbus.transport.port import Frame

__all__ = ["End", "Kind", "Letter", "Plug", "Traced"]


class Kind(enum.Enum):
    """The four sockets of the bus, and which connects to which."""

    ROUTER = "router"
    PULL = "pull"
    DEALER = "dealer"
    PUSH = "push"

    def connects_to(self, other: Kind) -> bool:
        """Whether a connection between the two comes about."""
        return (self, other) in {(Kind.DEALER, Kind.ROUTER), (Kind.PUSH, Kind.PULL)}


class Traced(NamedTuple):
    """Something that happened: when, what, to whom, and how many bytes or messages."""

    at: float
    what: str
    who: str
    size: int


class Plug:
    """One socket, as the network sees it. ``MemoryPort`` is what a shell sees."""

    def __init__(self, owner: str, kind: Kind, endpoints: Sequence[str]) -> None:
        self.owner = owner
        self.kind = kind
        self.endpoints = endpoints
        self.endpoint = endpoints[0]
        self.label = f"{owner}/{kind.value}"
        self.inbox: deque[tuple[End, list[Frame]]] = deque()
        self.ends: dict[bytes, End] = {}
        """The connections it knows of, by routing id; a DEALER or PUSH has at most one."""
        self.full = False
        self.closed = False
        self.connecting = False

    @property
    def connects(self) -> bool:
        return self.kind in (Kind.DEALER, Kind.PUSH)


class Letter(NamedTuple):
    """A message under way."""

    due: float
    frames: list[Frame]
    size: int
    fatal: bool
    """Its connection ends when it is due."""


class End:
    """One side of a connection."""

    def __init__(self, plug: Plug, route: bytes) -> None:
        self.plug = plug
        self.route = route
        self.label = ""
        self.other: End = self
        self.under_way: deque[Letter] = deque()
        self.undrained = 0
        self.broken = False
        self.lost = 0
        self.scheduled = False

    @classmethod
    def pair(cls, one: Plug, another: Plug, route: bytes) -> tuple[End, End]:
        """Both sides of a new connection."""
        near, far = cls(one, route), cls(another, route)
        near.other, far.other = far, near
        near.label = f"{one.label} to {another.label}"
        far.label = f"{another.label} to {one.label}"
        return near, far
