"""A broker's life as a process: lock, bind, ready, turn, drain, gone (promises P18, P23, P24).

Rules:

* The lock is taken before anything is bound, so a second broker leaves the first untouched.
* READY is said after the sockets are bound and not before; the watchdog is fed by the turn.
* SIGTERM and SIGINT drain: no new requests, open ones finish, exit 0. A second signal, or a
  drain that takes too long, exits 1 with the list of what was left.
* SIGHUP reads the settings again: policy and trusted keys are swapped whole, or not (P19).
* A signal's handler only notes it and wakes the turn.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

from zbus.broker.daemon import Daemon
from zbus.broker.descriptors import backlog_max, raise_limit
from zbus.broker.doorkeeper import Doorkeeper
from zbus.broker.governor import Governor
from zbus.broker.heap import Heap
from zbus.broker.instance import InstanceLock
from zbus.broker.notify import Notifier
from zbus.broker.settings import Settings
from zbus.errors import ZbusError
from zbus.protocol.limits import HEADER_MAX_BYTES
from zbus.transport.guard import Gate
from zbus.transport.library import check_library
from zbus.transport.port import Network
from zbus.transport.profile import FRAME_MARGIN_BYTES, SocketProfile
from zbus.transport.sockets import ZmqNetwork

__all__ = ["run_broker"]

_logger = logging.getLogger("zbus.broker")
_BUSY_S = 0.002
"""A broker that has heard nothing for so long sleeps at once."""
_LOOK_S = 0.5
"""How often the authenticator is looked after."""
_GOODBYE_S = 0.2
"""How long the last goodbyes have to leave: libzmq sends them in its own thread."""


def run_broker(
    settings: Settings, *, ready: str = "", reload: Callable[[], Settings] | None = None
) -> int:
    """Be the broker until a signal ends it; the process's exit code.

    ``ready`` is printed on standard output once the sockets are bound, for whoever started us.
    ``reload`` reads the settings again, at SIGHUP.

    Raises:
        AlreadyRunning: another broker has this place.
        ConfigError: it cannot be bound, or its directory or keys cannot be used.
        UnfitLibrary: the libzmq of this machine cannot carry it.
    """
    check_library()
    listen = settings.listen
    endpoints = (*listen.frontend, *listen.backend, *listen.pipe)
    with InstanceLock(settings.broker.runtime_dir, endpoints):
        doorkeeper = Doorkeeper(settings)
        network = ZmqNetwork(_profile(settings), Gate(doorkeeper.guard))
        try:
            doorkeeper.open(network)
            return _Life(doorkeeper, network, reload).live(ready)
        finally:
            doorkeeper.close()
            network.close(_GOODBYE_S)


def _profile(settings: Settings) -> SocketProfile:
    """Sockets that take the largest body of this bus in one frame, and have no more at their
    doors than there is room for."""
    largest = max(HEADER_MAX_BYTES, settings.bounds.body_max_bytes)
    backlog = backlog_max(SocketProfile().backlog, raise_limit())
    return SocketProfile(frame_max_bytes=largest + FRAME_MARGIN_BYTES, backlog=backlog)


class _Life:
    """From bind to the last goodbye."""

    def __init__(
        self,
        doorkeeper: Doorkeeper,
        network: Network,
        reload: Callable[[], Settings] | None = None,
    ) -> None:
        settings = doorkeeper.settings
        self._network = network
        self._doorkeeper = doorkeeper
        self._read_again = reload
        self._reload_wanted = False
        self._looked = 0.0
        self._heap = Heap()
        self._drain_s = settings.times.drain_s
        self._notifier = Notifier(os.environ)
        self._signals = 0
        self._fed = 0.0
        self._received = 0
        self._busy_until = 0.0
        # Where there is one processor, spinning would only keep the others from it.
        several = len(os.sched_getaffinity(0)) > 1
        self._spin_s = settings.broker.spin_s if several else 0.0
        now = time.monotonic()
        self._daemon = Daemon(settings, network, _tokens(), now, doorkeeper.name_of)
        self._governor: Governor | None = None

    def live(self, ready: str) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        signal.signal(signal.SIGHUP, self._note_reload)
        self._daemon.open()
        settings, network = self._doorkeeper.settings, self._network
        if isinstance(network, ZmqNetwork):
            self._governor = Governor(settings, network, self._daemon, raise_limit())
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

    def _note_reload(self, number: int, frame: FrameType | None) -> None:
        self._reload_wanted = True
        self._network.wake()

    def _reload(self, now: float) -> None:
        """Swap policy and trusted keys whole, or keep the old ones and say why (P19)."""
        self._reload_wanted = False
        try:
            settings = self._read_again() if self._read_again else self._doorkeeper.settings
            self._doorkeeper.reload(settings)
        except ZbusError as error:
            _logger.error("reload_refused", extra={"fields": {"why": error.what}})
            return
        self._daemon.adopt(settings, now)
        _logger.info("reloaded")

    def _look_after(self, now: float) -> None:
        if self._reload_wanted:
            self._reload(now)
        if now - self._looked >= _LOOK_S:
            self._looked = now
            self._doorkeeper.watch()
            counts = self._daemon.counts
            self._heap.look(counts["peer_attached"] + counts["peer_lost"], now)

    def _turn(self, until: float | None = None) -> None:
        now = time.monotonic()
        self._look_after(now)
        more = self._daemon.step(now)
        governor = self._governor
        if governor is not None:
            governor.turn(now)
        self._feed(now)
        if more or self._network.readable():
            return
        if self._spin_s and self._is_busy(now) and self._spin():
            return
        look = governor.wake_at() if governor is not None else None
        dues = (self._daemon.wake_at(now), until, self._feed_at(), look)
        bounds = [instant for instant in dues if instant is not None]
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
            if self._network.wait(0.0):
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
        if self._governor is not None:
            self._governor.close()
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
