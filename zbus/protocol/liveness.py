"""Is the other side alive? Arithmetic on instants, and a clock that leaves out my own stalls.

The intuition: I watch a road and call a car lost when it has not come by for a while. If I fell
asleep, the time I slept says nothing about the cars. So silence is measured on a clock that
stands still while this process did not run (spec 8.5), and one rule does for SIGSTOP, a
suspended laptop and a handler that held the interpreter lock.

Times in seconds. ``interval`` is the heartbeat that the broker gave in its Welcome.
"""

from __future__ import annotations

__all__ = ["BEATS_WHEN_BUSY", "PATIENCE", "PATIENCE_IDLE", "Pulse", "Vigil"]

PATIENCE = 2.5
"""Lost after so many intervals of silence (spec 8.3): a peer that holds the interpreter lock for
two intervals is not lost, one that died is told within three."""
PATIENCE_IDLE = 4.0
"""The same for a peer that owes nobody anything."""
BEATS_WHEN_BUSY = 4
"""Heartbeats an interval while there is open work (spec 8.2)."""
_SLACK_S = 0.05
"""Lateness of a turn that is ordinary scheduling and no stall."""
_AFTERMATH_S = 0.25
"""For so long after a stall, what arrives may have waited through it: a turn drains only so
much, and the socket's own thread was stopped as well."""


class Vigil:
    """This process's waking time: a monotonic clock less the stalls.

    Whoever keeps a vigil must turn at least every ``period``; a longer gap is a stall. Of such a
    gap one period counts as awake, for it may have been, and a process that always turns late
    must still find out who is lost. What arrives after a gap may have waited for all of it.
    """

    def __init__(self, now: float, period: float) -> None:
        self.period = period
        self._slept = 0.0
        self._last = now
        self._stalled_at = now
        self._suspect_until = float("-inf")

    def turn(self, now: float) -> None:
        """Note that we run."""
        gap = now - self._last
        if gap > self.period + _SLACK_S:
            self._slept += gap - self.period
            self._stalled_at = self._last
            self._suspect_until = now + _AFTERMATH_S
        if gap > 0.0:
            self._last = now

    def waited_s(self, now: float) -> float:
        """How long what arrives now may have waited for us, 0.0 unless we have just been
        stalled; never too little, so that nobody starts what is too late (spec 6.2)."""
        return now - self._stalled_at if now <= self._suspect_until else 0.0

    def clock(self, now: float) -> float:
        """The instant ``now`` in waking time, also if it was not noted as a turn."""
        gap = now - self._last
        if gap > self.period + _SLACK_S:
            return self._last + self.period - self._slept
        return now - self._slept

    def instant(self, awake: float) -> float:
        """When it will be ``awake`` in waking time, if we do not stall before."""
        return awake + self._slept

    def next_turn(self) -> float:
        """When the next turn is expected at the latest, in monotonic time."""
        return self._last + self.period


class Pulse:
    """What is known of one other side: when it was heard, and when it last heard us.

    Instants are in waking time (``Vigil.clock``).
    """

    __slots__ = ("heard", "spoke")

    def __init__(self, awake: float) -> None:
        self.heard = awake
        self.spoke = awake

    def lost(self, awake: float, patience_s: float) -> bool:
        """Whether it has been silent for as long as we are patient."""
        return awake - self.heard >= patience_s

    def must_speak(self, awake: float, interval_s: float) -> bool:
        """Whether we have been silent for as long as we may."""
        return awake - self.spoke >= interval_s
