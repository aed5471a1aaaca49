"""A clock that moves only when it is told to, and what each process makes of it.

Rules of this room:

* ``VirtualClock`` is the true time of a simulation, which no process sees. It never goes back.
* A process sees a ``ClockView``: a monotonic clock that started at another moment and may run
  a little fast or slow, as those of real machines do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["ClockView", "VirtualClock"]


class VirtualClock:
    """Seconds that pass only when told."""

    __slots__ = ("_now",)

    def __init__(self, start_s: float = 0.0) -> None:
        self._now = start_s

    @property
    def now(self) -> float:
        """The true time."""
        return self._now

    def advance_to(self, instant: float) -> None:
        """Let it be ``instant``. ``ValueError`` for the past, and for what is no time."""
        if not self._now <= instant < math.inf:
            raise ValueError(f"the clock stands at {self._now} and cannot go to {instant}")
        self._now = instant

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.advance_to(self._now + seconds)

    def view(self, offset_s: float = 0.0, rate: float = 1.0) -> ClockView:
        """The clock of a process: ``offset_s + rate * true time``."""
        return ClockView(self, offset_s, rate)


@dataclass(frozen=True, slots=True)
class ClockView:
    """One process's monotonic clock."""

    true: VirtualClock
    offset_s: float = 0.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 < self.rate < math.inf and math.isfinite(self.offset_s)):
            raise ValueError(f"no clock runs from {self.offset_s} at rate {self.rate}")

    def now(self) -> float:
        """What this process reads."""
        return self._at(self.true.now)

    def instant(self, reading: float) -> float:
        """A true time at which this clock shows ``reading`` or, by a rounding, a little more.

        Never less: a machine that is ticked a rounding too early finds nothing due and asks for
        the same time again, for ever.
        """
        if not math.isfinite(reading):
            return reading
        instant = (reading - self.offset_s) / self.rate
        step = math.ulp(max(abs(reading), abs(self.offset_s))) / self.rate
        while self._at(instant) < reading:
            instant = max(instant + step, math.nextafter(instant, math.inf))
            step *= 2
        return instant

    def _at(self, instant: float) -> float:
        return self.offset_s + self.rate * instant
