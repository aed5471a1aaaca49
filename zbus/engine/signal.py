"""A signal: one flag with a value, which says to a run or a task that it is to end.

Rules of this room:

* Whoever holds a signal may trigger it, from any thread; the last value stays.
* ``trigger_time`` is a reading of the monotonic clock, for differences only (contract 12.33).
* A signal with a parent is triggered once either of them is.
"""

from __future__ import annotations

import time
from typing import Any

__all__ = ["Signal"]


class Signal:
    """Triggered or not, with a value."""

    def __init__(self, parent: Signal | None = None) -> None:
        self._parent = parent
        self._state: tuple[bool, Any, float | None] = (False, None, None)

    def trigger(self, value: Any) -> None:
        """Trigger it, with a value for whoever looks."""
        self._state = (True, value, time.monotonic())

    def reset(self, value: Any = None) -> None:
        """Make it untriggered again."""
        self._state = (False, value, None)

    @property
    def value(self) -> Any:
        """The value of the last ``trigger`` or ``reset``."""
        return self._state[1]

    @property
    def trigger_time(self) -> float | None:
        """When it was triggered, in seconds of the monotonic clock; None while it is not."""
        return self._state[2]

    @property
    def triggered(self) -> bool:
        """Whether this signal or its parent is triggered."""
        return self._state[0] or (self._parent is not None and self._parent.triggered)
