"""What happened in a simulation, seen from outside: asked, begun, ended, pushed, taken.

Rules of this room:

* Facts and no judgement; ``testing.model`` judges. Times are true times, but where a field says
  that it is what a process's own clock showed.
* Nothing here is told by the machines: what was asked comes from the caller, what began from the
  handler itself, and how it ended from what the caller was given.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from zbus.errors import ZbusError
from zbus.peer.call import Result
from zbus.protocol.effect import LaneKey, Outcome
from zbus.protocol.message import Frames, Key
from zbus.protocol.requests import Ask

__all__ = ["Asked", "Begun", "History", "LanePushes", "Life", "Taken"]


class Life(NamedTuple):
    """One life of a process: its name, and how many it had before, and this one."""

    name: str
    number: int


@dataclass(slots=True, eq=False)
class Begun:
    """A handler began. ``left_s`` is what was left of its time on the handler's own clock."""

    life: Life
    at: float
    body: bytes
    frames: Frames
    left_s: float = 0.0
    result: Result | None = None
    ended_at: float | None = None


@dataclass(slots=True, eq=False)
class Asked:
    """A request that was accepted from its caller. ``deadline_at`` and ``ended_at`` are true
    times; ``early_s`` is how long before the deadline it ended on its own process's clock.
    ``attached``: there was a broker when it was asked."""

    key: Key
    life: Life
    ask: Ask
    at: float
    deadline_at: float
    attached: bool
    begun: list[Begun] = field(default_factory=list)
    outcome: Outcome | None = None
    ended_at: float | None = None
    early_s: float = 0.0
    ends: int = 0


class Taken(NamedTuple):
    """A handler began with a push of a lane."""

    sequence: int
    begun: Begun


@dataclass(slots=True, eq=False)
class LanePushes:
    """One lane: the bodies that were accepted, in order, and what handlers took of it."""

    accepted: list[bytes] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)


class History:
    """Everything that happened, until now."""

    def __init__(self) -> None:
        self.requests: dict[Key, Asked] = {}
        self.strays: dict[Key, list[Begun]] = {}
        """Starts of requests that none of our callers asked."""
        self.lanes: dict[LaneKey, LanePushes] = {}
        self.refused: Counter[str] = Counter()
        """What was refused to its caller at once, by the name of the error."""

    def asked(self, asked: Asked) -> None:
        """A request was accepted."""
        self.requests[asked.key] = asked

    def ended(self, asked: Asked, outcome: Outcome, at: float) -> None:
        """Its caller was told how it ended."""
        asked.ends += 1
        if asked.ends == 1:
            asked.outcome, asked.ended_at = outcome, at

    def began(self, key: Key, begun: Begun) -> None:
        """A handler began with a request."""
        asked = self.requests.get(key)
        if asked is None:
            self.strays.setdefault(key, []).append(begun)
        else:
            asked.begun.append(begun)

    def pushed(self, lane: LaneKey, body: bytes) -> None:
        """A push was accepted."""
        self._lane(lane).accepted.append(body)

    def took(self, lane: LaneKey, sequence: int, begun: Begun) -> None:
        """A handler began with a push."""
        self._lane(lane).taken.append(Taken(sequence, begun))

    def refuse(self, error: ZbusError) -> None:
        """A call was refused at once."""
        self.refused[type(error).__name__] += 1

    def _lane(self, key: LaneKey) -> LanePushes:
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lanes[key] = LanePushes()
        return lane
