"""A broker's life as a process: lock, bind, ready, turn, drain, gone (promises P18, P23, P24).

Rules:

* The lock is taken before anything is bound, so a second broker leaves the first untouched.
* READY is said after the sockets are bound and not before; the watchdog is fed by the turn.
* SIGTERM and SIGINT drain: no new requests, open ones finish, exit 0. A second signal, or a
  drain that takes too long, exits 1 with the list of what was left.
* A signal's handler only notes it and wakes the turn.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time
from collections.abc import Iterator
from types import FrameType

from zbus.broker.daemon import Daemon
from zbus.broker.instance import InstanceLock
from zbus.broker.notify import Notifier
from zbus.broker.settings import Settings
from zbus.protocol.limits import HEADER_MAX_BYTES
from zbus.transport.profile import FRAME_MARGIN_BYTES, SocketProfile
from zbus.transport.sockets import ZmqNetwork

__all__ = ["run_broker"]

_logger = logging.getLogger("zbus.broker")
_BUSY_S = 0.002
"""A broker that has heard nothing for so long sleeps at once."""
_GOODBYE_S = 0.2
"""How long the last goodbyes have to leave: libzmq sends them in its own thread."""


def run_broker(settings: Settings, *, ready: str = "") -> int:
    """Be the broker until a signal ends it; the process's exit code.

    ``ready`` is printed on standard output once the sockets are bound, for whoever started us.

    Raises:
        AlreadyRunning: another broker has this place.
        ConfigError: it cannot be bound, or its directory cannot be used.
    """
    listen = settings.listen
    endpoints = (*listen.frontend, *listen.backend, *listen.pipe)
    with InstanceLock(settings.broker.runtime_dir, endpoints):
        network = ZmqNetwork(_profile(settings))
        try:
            return _Life(settings, network).live(ready)
        finally:
            network.close(_GOODBYE_S)


def _profile(settings: Settings) -> SocketProfile:
    """Sockets that take the largest body of this bus in one frame."""
    largest = max(HEADER_MAX_BYTES, settings.bounds.body_max_bytes)
    return SocketProfile(frame_max_bytes=largest + FRAME_MARGIN_BYTES)


class _Life:
    """From bind to the last goodbye."""

    def __init__(self, settings: Settings, network: ZmqNetwork) -> None:
        self._network = network
        self._drain_s = settings.times.drain_s
        self._notifier = Notifier(os.environ)
        self._signals = 0
        self._fed = 0.0
        self._received = 0
        self._busy_until = 0.0
        # Where there is one processor, spinning would only keep the others from it.
        several = len(os.sched_getaffinity(0)) > 1
        self._spin_s = settings.broker.spin_s if several else 0.0
        self._daemon = Daemon(settings, network, _tokens(), time.monotonic())

    def live(self, ready: str) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        self._daemon.open()
        if ready:
            print(ready, flush=True)
        self._notifier.ready("serving")
        _logger.info("broker_ready", extra={"fields": {"pid": os.getpid()}})
        while not self._signals:
            self._turn()
        return self._drain()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        self._network.wake()

    def _turn(self, until: float | None = None) -> None:
        now = time.monotonic()
        more = self._daemon.step(now)
        self._feed(now)
        if more or self._network.readable():
            return
        if self._spin_s and self._is_busy(now) and self._spin():
            return
        due = self._daemon.wake_at(now)
        bounds = [instant for instant in (due, until, self._feed_at()) if instant is not None]
        self._network.wait(max(min(bounds) - now, 0.0) if bounds else None)

    def _is_busy(self, now: float) -> bool:
        if self._received != self._daemon.received:
            self._received = self._daemon.received
            self._busy_until = now + _BUSY_S
        return now < self._busy_until

    def _spin(self) -> bool:
        """Look for a moment instead of sleeping; whether something came. Being woken costs more
        than most turns take, twice a request (docs/benchmarks.md)."""
        until = time.monotonic() + self._spin_s
        while not self._signals and time.monotonic() < until:
            if self._network.readable():
                return True
        return False

    def _drain(self) -> int:
        self._notifier.stopping("draining")
        _logger.info("broker_draining", extra={"fields": {"open": len(self._daemon.left())}})
        self._daemon.drain()
        deadline = time.monotonic() + self._drain_s
        while self._signals < 2 and not self._daemon.is_drained:
            if time.monotonic() >= deadline:
                break
            self._turn(deadline)
        left = self._daemon.left()
        self._daemon.close(time.monotonic())
        for request in left:
            _logger.error("request_left", extra={"fields": {"request": request}})
        _logger.info("broker_gone", extra={"fields": {"left": len(left)}})
        return 1 if left else 0

    def _feed_at(self) -> float | None:
        watchdog_s = self._notifier.watchdog_s
        return None if watchdog_s is None else self._fed + watchdog_s / 2

    def _feed(self, now: float) -> None:
        at = self._feed_at()
        if at is not None and now >= at:
            self._fed = now
            self._notifier.watchdog()


def _tokens() -> Iterator[int]:
    """Unguessable sessions: who knows one can push in its owner's name."""
    while True:
        yield secrets.randbits(62) + 1
