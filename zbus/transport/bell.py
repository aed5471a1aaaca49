"""Where one thread sleeps on descriptors, and how others wake it.

Rules of this room:

* It knows descriptors and no sockets, so one thread may sleep here while another uses the
  sockets. One thread at a time sleeps; descriptors may be added and removed meanwhile, which is
  why this is an epoll set and no poll list.
* ``ring`` costs no system call while nobody sleeps, or when it has been called already. It may
  be called from any thread, from a signal's handler, and after ``close``.
"""

from __future__ import annotations

import os
import select
import threading

__all__ = ["Bell"]

_SLEEP_MAX_S = 3_600.0
"""``sleep`` returns at least this often; the kernel cannot be asked for infinity."""
_RUNG_MAX = 64


class Bell:
    """One sleeper, its descriptors, and a bell that wakes it."""

    __slots__ = ("_alarm", "_closed", "_epoll", "_lock", "_rung", "_sleeping")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._alarm, select.EPOLLIN)
        # Reentrant, because a signal's handler may ring while it interrupts a ring.
        self._lock = threading.RLock()
        self._rung = False
        self._sleeping = False
        self._closed = False

    def watch(self, descriptor: int) -> None:
        """Wake the sleeper, also one that sleeps already, when this can be read."""
        self._epoll.register(descriptor, select.EPOLLIN)

    def ignore(self, descriptor: int) -> None:
        """No longer. Must be said before the descriptor is closed: a forked child that has a
        copy of it keeps it in the set otherwise."""
        self._epoll.unregister(descriptor)

    def sleep(self, timeout_s: float | None) -> set[int]:
        """Sleep until a descriptor can be read, ``ring`` is called or the time is up; which
        descriptors can be read. May return early."""
        bound_s = _SLEEP_MAX_S if timeout_s is None else min(max(timeout_s, 0.0), _SLEEP_MAX_S)
        # Both sides write one flag and then read the other's: here sleeping and then rung, in
        # ring() rung and then sleeping. Whichever writes first is seen by the other, so either
        # this does not sleep or ring() writes to the alarm.
        self._sleeping = True
        try:
            readable = self._epoll.poll(0.0 if self._rung else bound_s, _RUNG_MAX)
        finally:
            self._sleeping = False
        # Forgetting it now loses nothing: whatever it announced was there before this line, and
        # the caller looks after it.
        self._rung = False
        descriptors = {descriptor for descriptor, _ in readable}
        if self._alarm in descriptors:
            os.eventfd_read(self._alarm)
            descriptors.discard(self._alarm)
        return descriptors

    def ring(self) -> None:
        """End a ``sleep`` in another thread, now or the next one."""
        if self._rung:
            return
        self._rung = True
        if self._sleeping:
            with self._lock:  # else close() could give the number to another file in between
                if not self._closed:
                    os.eventfd_write(self._alarm, 1)

    def close(self) -> None:
        """Give the descriptors of our own back. A second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._epoll.close()
                os.close(self._alarm)
