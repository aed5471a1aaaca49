"""Handlers that have proven quick, run by the thread that turns the link instead of the pool's.

To hand a request to another thread and back costs more than all else a peer does for it. So a
handler that has always been quick is run by the thread on duty, between two turns; and a second
thread, the *relief*, takes the duty over should it not be quick this time.

Rules:

* Nothing is run here unless a relief stands by. So heartbeats and other requests wait for a
  handler that turns out slow for two watches at most (``WATCH_S``), and one such handler at a
  time keeps one thread; all else goes to the pool meanwhile.
* What waits here when the relief takes over goes to the pool: it does not wait for the slow one.
* The relief sleeps without a timeout while nothing is run here, and costs nothing then.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from zbus.peer.call import Call
from zbus.peer.pool import HandlerPool

__all__ = ["WATCH_S", "Quick"]

WATCH_S = 0.005
"""A handler that is at it for a whole watch is slow."""
_BATCH_S = 0.001
"""After so long the thread on duty turns again, so that what is answered can leave."""


class Quick:
    """The calls that the thread on duty runs itself, and the watch over it."""

    def __init__(self, pool: HandlerPool) -> None:
        self._pool = pool
        self._calls: deque[Call] = deque()
        self._covered = False
        self._running = False
        self._begun = 0
        self._at: Call | None = None
        self._dozes = False
        self._ended = False
        self._bell = threading.Lock()
        self._bell.acquire()

    @property
    def waits(self) -> bool:
        """Whether a call waits to be run."""
        return bool(self._calls)

    def begin(self, call: Call) -> None:
        """Run this call here if its handler is known to be quick, else in the pool."""
        if self._covered and self._pool.is_quick(call.topic):
            self._calls.append(call)
        else:
            self._pool.submit(call)

    def run(self, on_duty: Callable[[], bool]) -> None:
        """Run what waits, in the thread that is ``on_duty`` until it is relieved."""
        self._running = True
        if self._dozes:
            self._dozes = False
            self._ring()
        end = time.monotonic() + _BATCH_S
        while on_duty():
            try:
                call = self._calls.popleft()
            except IndexError:
                break
            self._begun += 1
            self._at = call
            self._pool.run_here(call)
            if time.monotonic() >= end:
                break
        if on_duty():
            self._running = False

    def stand_by(self) -> bool:
        """In the relief: sleep until the thread on duty is slow, and True; False once ended."""
        self._covered = True
        seen = -1
        while not self._ended:
            if self._running and self._begun == seen:
                self._covered = self._running = False
                return True
            if self._begun == seen:
                self._doze()
            else:
                seen = self._begun
                self._bell.acquire(timeout=WATCH_S)
        return False

    def hand_over(self) -> None:
        """The relief has taken over: the slow handler's thread is the pool's until it returns,
        and what waited for it goes to the pool."""
        if self._at is not None:
            self._pool.adopt(self._at)
        while self._calls:
            with suppress(IndexError):
                self._pool.submit(self._calls.popleft())

    def end(self) -> None:
        """Nothing is run here any more."""
        self._covered = False
        self._ended = True
        self._ring()

    def _doze(self) -> None:
        self._dozes = True
        if not (self._running or self._ended):
            self._bell.acquire()
        self._dozes = False

    def _ring(self) -> None:
        with suppress(RuntimeError):  # it rings already
            self._bell.release()
