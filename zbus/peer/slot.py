"""Where a blocking caller waits for the one outcome of its request.

Rules: a slot is ended once, from any thread, and waited for by one; it never waits longer than it
is told, and its gate is a raw lock, which is the quickest hand-over there is.
"""

from __future__ import annotations

import threading

from zbus.protocol.effect import Outcome

__all__ = ["Slot"]

_WAIT_MAX_S = 3_600.0


class Slot:
    """Where a caller waits for its one outcome."""

    __slots__ = ("_gate", "deadline", "outcome")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.outcome: Outcome | None = None
        self._gate = threading.Lock()
        self._gate.acquire()

    def end(self, outcome: Outcome) -> None:
        """The outcome is here."""
        self.outcome = outcome
        self._gate.release()

    @property
    def is_ended(self) -> bool:
        """Whether the outcome is here; asked anew each time, since another thread brings it."""
        return self.outcome is not None

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the outcome is here; False when the time is up first."""
        return self._gate.acquire(timeout=min(max(timeout_s, 0.0), _WAIT_MAX_S))
