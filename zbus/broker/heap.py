"""Memory that a broker no longer needs, given back to the system.

Where two thousand peers come back at once, many connections are begun twice. What libzmq frees of
them stays with the process, in pages between others that are used: up to a fifth of the whole.
The C library gives such pages back when it is told to, and only then.

Rules of this room:

* It is told while peers come and go, and ``_PAUSE_S`` later once more; a broker whose peers stay
  is left alone. It takes a millisecond or two.
* Where the C library has no such call, or may not be called, nothing happens.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Heap"]

_PAUSE_S = 2.0


class Heap:
    """Trims the heap of this process, whenever peers have come or gone. ``trim`` gives back what
    can be given back."""

    def __init__(self, trim: Callable[[], object] | None = None) -> None:
        self._trim = trim or _trim_of_libc()
        self._seen = 0
        self._due = float("inf")

    def look(self, changes: int, now: float) -> None:
        """``changes`` counts the peers that ever came or went; to be called now and then."""
        if now >= self._due:
            self._due = float("inf")
            self._trim()
        if changes != self._seen:
            self._seen = changes
            self._due = min(self._due, now + _PAUSE_S)


def _trim_of_libc() -> Callable[[], object]:
    try:
        import ctypes  # here, for where memory may not be made executable its import can fail

        trim = ctypes.CDLL(None).malloc_trim
    except (ImportError, OSError, AttributeError, MemoryError):
        return lambda: None
    return lambda: trim(ctypes.c_size_t(0))
