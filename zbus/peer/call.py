"""What a peer gives its handlers to do, and the interface of whoever does it.

Rules:

* ``finish`` is called exactly once for each call, from any thread, whatever the handler does.
* A deadline is an instant of the executor's clock. A push has none, and its result is only
  looked at for whether it went well.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from zbus.errors import ZbusError
from zbus.protocol.message import NO_FRAMES, Frames

__all__ = ["DONE", "Call", "Executor", "Result", "Returned"]


class Returned(NamedTuple):
    """The handler returned, and this is its encoded reply."""

    body: bytes
    frames: Frames

    def __repr__(self) -> str:
        return f"Returned(<{len(self.body)} bytes>, frames={len(self.frames)})"


DONE = Returned(b"", NO_FRAMES)
"""What a push ends with that went well."""

Result: TypeAlias = Returned | ZbusError
"""How a call ended. An error says whether the handler ran (promise P4)."""


@dataclass(slots=True, eq=False)
class Call:
    """One request or push on its way to its handler; compared by identity.

    ``cancelled`` is set by the link's thread once the caller gave up, and read by the handler.
    ``epoch`` is the life of its source, ``number`` the request's in it, or the push's in its lane.
    """

    topic: str
    source: str
    body: bytes = field(repr=False)
    frames: Frames = field(repr=False)
    deadline: float | None
    trace: str
    finish: Callable[[Result], None]
    cancelled: bool = False
    epoch: int = 0
    number: int = 0


class Executor(Protocol):
    """Runs handlers. All but ``close`` return at once and may be called from any thread."""

    def submit(self, call: Call) -> None:
        """Run the handler of one request."""

    def submit_lane(self, lane: Hashable, calls: Sequence[Call]) -> None:
        """Run the handler of these pushes of one topic: in order, after those that were given
        for this lane before, and one at a time."""

    def cancel(self, call: Call) -> None:
        """The caller gave up: show it to the handler, and interrupt it where that is possible."""

    def close(self, drain_s: float) -> int:
        """Take nothing new, wait until all calls are finished or the time is up, and say how
        many were not finished by their handlers."""
