"""A broker in a thread of this process, over ipc, for the tests of peers on real sockets.

Rules of this room:

* It is the daemon that ``zbus broker`` turns, without lock and signals.
* ``kill`` ends it as kill -9 would: nobody is told, and ``start`` begins another life.
* Only its own thread touches the daemon; ``see`` looks at it from there.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from zbus.broker.daemon import Daemon
from zbus.broker.sections import LimitsSection, ListenSection, TimesSection
from zbus.broker.settings import Settings
from zbus.peer.dispatcher import Dispatcher, Incoming
from zbus.peer.peer import Peer, connect
from zbus.transport.sockets import ZmqNetwork

T = TypeVar("T")
BOUND_S = 20.0
"""How long anything is waited for; a loaded machine is no failure."""


class HereBroker:
    """One place, and a broker there that can be killed and started."""

    def __init__(
        self, place: Path, *, heartbeat_s: float = 1.0, limits: LimitsSection | None = None
    ) -> None:
        self.frontend, self.backend = f"ipc://{place}/frontend", f"ipc://{place}/backend"
        self.settings = Settings(
            listen=ListenSection(
                frontend=(self.frontend,), backend=(self.backend,), pipe=(f"ipc://{place}/pipe",)
            ),
            times=TimesSection(heartbeat_s=heartbeat_s),
            bounds=limits or LimitsSection(restart_settle_s=0.0),
        )
        self._looks: SimpleQueue[Callable[[Daemon], object]] = SimpleQueue()
        self._network: ZmqNetwork | None = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._polite = True

    def start(self) -> HereBroker:
        """Bind, and turn."""
        network = self._network = ZmqNetwork()
        tokens = iter(lambda: secrets.randbits(62) + 1, 0)
        daemon = Daemon(self.settings, network, tokens, time.monotonic())
        daemon.open()
        self._ending.clear()
        self._thread = threading.Thread(target=self._turn, args=(daemon, network), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Say goodbye to everybody and be gone."""
        self._end(polite=True)

    def kill(self) -> None:
        """Be gone, and tell nobody."""
        self._end(polite=False)

    def see(self, look: Callable[[Daemon], T]) -> T:
        """What ``look`` says of the daemon, between two of its turns."""
        assert self._network is not None, "there is no broker now"
        answer: Future[T] = Future()
        self._looks.put(lambda daemon: answer.set_result(look(daemon)))
        self._network.wake()
        return answer.result(BOUND_S)

    def events(self, event: str) -> int:
        """How often the daemon logged this."""
        return self.see(lambda daemon: daemon.counts[event])

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """As under SIGSTOP: it neither reads nor beats until the block ends."""
        begun, go_on = threading.Event(), threading.Event()

        def stand(_daemon: Daemon) -> None:
            begun.set()
            go_on.wait(BOUND_S)

        assert self._network is not None
        self._looks.put(stand)
        self._network.wake()
        assert begun.wait(BOUND_S)
        try:
            yield
        finally:
            go_on.set()

    def _end(self, *, polite: bool) -> None:
        if self._thread is None or self._network is None:
            return
        self._polite = polite
        self._ending.set()
        self._network.wake()
        self._thread.join(BOUND_S)
        assert not self._thread.is_alive(), "the broker does not end"
        self._network.close(0.2 if polite else 0.0)
        self._thread = self._network = None

    def _turn(self, daemon: Daemon, network: ZmqNetwork) -> None:
        while not self._ending.is_set():
            while not self._looks.empty():
                self._looks.get()(daemon)
            now = time.monotonic()
            if daemon.step(now) or network.readable():
                continue
            due = daemon.wake_at(now)
            network.wait(None if due is None else max(due - now, 0.0))
        if self._polite:
            daemon.close(time.monotonic())


@contextmanager
def broker(
    place: Path, *, heartbeat_s: float = 1.0, limits: LimitsSection | None = None
) -> Iterator[HereBroker]:
    """A broker that runs, and is gone at the end."""
    here = HereBroker(place, heartbeat_s=heartbeat_s, limits=limits).start()
    try:
        yield here
    finally:
        here.stop()


class Servant:
    """Handlers that the test holds up: ``hold`` returns once ``go_on`` is set or its caller has
    given up, ``note`` takes pushes, ``wait`` holds up pushes."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.held: list[Incoming] = []
        self.taken: list[Any] = []
        self.dispatcher = Dispatcher()
        self.dispatcher.add("echo", lambda body: body)
        self.dispatcher.add("hold", self._hold)
        self.dispatcher.add("note", self.taken.append)
        self.dispatcher.add("wait", lambda body: self.go_on.wait(BOUND_S))

    def is_told(self, which: int = 0) -> bool:
        """Whether a handler that was held knows that its caller gave up, before its time is up."""
        return self.held[which].cancelled and self.held[which].remaining() > 0.0

    def _hold(self, body: Any, request: Incoming) -> Any:
        self.held.append(request)
        until = time.monotonic() + request.remaining() + 0.2  # later than its caller's time
        while not self.go_on.wait(0.002) and time.monotonic() < until:
            if request.cancelled and request.remaining():
                break  # its caller gave up
        return body


@contextmanager
def serving(here: HereBroker, servant: Servant, name: str = "server") -> Iterator[Peer]:
    """A server with these handlers, found by its topics; it is not waited for at the end."""
    server = connect(here.backend, name, dispatcher=servant.dispatcher, role="server")
    try:
        until(lambda: here.see(lambda daemon: daemon.broker.roster.topics()), "the topics")
        yield server
    finally:
        servant.go_on.set()
        server.close(drain=0.0)


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {BOUND_S:g} s: {what}"
        time.sleep(0.002)


def threads() -> set[str]:
    """The names of the threads of peers, and of their handlers."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("zbus")}


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """What the block does leaves neither a descriptor nor a thread (P24). The broker's side of a
    connection is in this process too, and learns of the end a little later."""
    opened, running = _descriptors(), set(threading.enumerate())
    yield
    until(lambda: _descriptors() <= opened, "no descriptor is left")
    until(lambda: set(threading.enumerate()) <= running, "no thread is left")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def in_a_thread(act: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []

    def caught() -> None:
        try:
            results.append(act())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            results.append(error)

    thread = threading.Thread(target=caught, name="other", daemon=True)
    thread.start()
    return thread, results


def ended(thread: threading.Thread) -> None:
    thread.join(BOUND_S)
    assert not thread.is_alive(), "it hangs"
