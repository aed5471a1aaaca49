"""A real broker in a thread of this process, over ipc, for tests that want real sockets.

Rules of this room:

* It is the daemon that ``zbus broker`` runs, without the process around it: no signals, no lock.
* ``stop`` leaves nothing behind: no thread, no socket, no directory (P24).
"""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
import threading
import time
from pathlib import Path

from zbus.broker.daemon import Daemon
from zbus.broker.sections import ListenSection
from zbus.broker.settings import Settings
from zbus.transport.endpoints import broker_endpoint
from zbus.transport.sockets import ZmqNetwork

__all__ = ["BrokerThread"]


class BrokerThread:
    """A broker that runs until ``stop``. Engines attach at ``frontend``, servers at
    ``backend``."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="zbus-"))
        self.frontend, self.backend, self._pipe = (
            broker_endpoint(self._directory, door) for door in ("frontend", "backend", "pipe")
        )
        self._network = ZmqNetwork()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> BrokerThread:
        """Bind, and turn; the sockets are bound when this returns."""
        listen = ListenSection(
            frontend=(self.frontend,), backend=(self.backend,), pipe=(self._pipe,)
        )
        chance = random.SystemRandom()
        tokens = (chance.getrandbits(62) + 1 for _ in itertools.count())
        daemon = Daemon(Settings(listen=listen), self._network, tokens, time.monotonic())
        daemon.open()
        self._thread = threading.Thread(target=self._turn, args=(daemon,), name="zbus-broker")
        self._thread.start()
        return self

    def stop(self) -> None:
        """Say goodbye and be gone. A second call does nothing."""
        self._stopping.set()
        self._network.wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._network.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _turn(self, daemon: Daemon) -> None:
        while not self._stopping.is_set():
            now = time.monotonic()
            if daemon.step(now) or self._network.readable():
                continue
            due = daemon.wake_at(now)
            self._network.wait(None if due is None else max(due - now, 0.0))
        daemon.close(time.monotonic())
