"""What handlers report, from their threads, to whoever turns the link.

Rules: an end is called once; it puts its report where the link's turn finds it, and does nothing
else, because the link is another thread's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from zbus.peer.call import Result
from zbus.protocol.effect import LaneKey
from zbus.protocol.message import Key

__all__ = ["Finished", "PushEnd", "RequestEnd", "Settled"]


class Finished(NamedTuple):
    """The handler of a request is done."""

    key: Key
    result: Result


class Settled(NamedTuple):
    """The handler of a push is done, well or badly."""

    lane: LaneKey
    sequence: int
    failed: bool


@dataclass(slots=True, eq=False)
class RequestEnd:
    """What a handler of a request calls at its end."""

    report: Callable[[Key, Result], None]
    key: Key

    def __call__(self, result: Result) -> None:
        self.report(self.key, result)


@dataclass(slots=True, eq=False)
class PushEnd:
    """What a handler of a push calls at its end."""

    report: Callable[[LaneKey, int, Result], None]
    lane: LaneKey
    sequence: int

    def __call__(self, result: Result) -> None:
        self.report(self.lane, self.sequence, result)
