"""Which handlers are quick: those that have been, many times in a row.

Rules: a topic is quick after ``RUNS`` quick runs and until one that is not; after that it takes
``RUNS + DOUBT`` more. A run is quick below ``QUICK_S`` of wall time, so a busy machine makes fewer
handlers quick, which costs time and nothing else.
"""

from __future__ import annotations

__all__ = ["DOUBT", "QUICK_S", "RUNS", "Pace"]

QUICK_S = 0.001
RUNS = 8
DOUBT = 64


class Pace:
    """What is known of each topic's handler. Threads may note at once, and lose a run by it."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: dict[str, int] = {}

    def is_quick(self, topic: str) -> bool:
        """Whether the handler of this topic has been quick for long enough to rely on it."""
        return self._runs.get(topic, 0) >= RUNS

    def note(self, topic: str, took_s: float) -> None:
        """A run of this topic's handler took so long."""
        runs = self._runs.get(topic, 0)
        if took_s >= QUICK_S:
            self._runs[topic] = -DOUBT
        elif runs < RUNS:
            self._runs[topic] = runs + 1
