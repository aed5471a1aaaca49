"""What will happen when, under a virtual clock.

Rules of this room:

* Events of the same instant happen in the order in which they were planned, so that a run
  repeats.
* An event that is planned for the past happens at once, at the time it is now.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

from zbus.testing.clock import VirtualClock

__all__ = ["Timeline"]


class Timeline:
    """Events to come. They are never withdrawn: each looks whether it still means anything."""

    __slots__ = ("_clock", "_events", "_planned")

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._planned = 0

    def plan(self, instant: float, event: Callable[[], None]) -> None:
        """Let it happen at this true time. At infinity means never."""
        if instant < math.inf:
            self._planned += 1
            heapq.heappush(self._events, (max(instant, self._clock.now), self._planned, event))

    def next_at(self) -> float | None:
        """When the next one is."""
        return self._events[0][0] if self._events else None

    def advance(self, now: float) -> None:
        """Let it be ``now``, and let happen what is due until then, each at its time."""
        events = self._events
        while events and events[0][0] <= now:
            at, _, event = heapq.heappop(events)
            self._clock.advance_to(max(at, self._clock.now))
            event()
        self._clock.advance_to(now)
