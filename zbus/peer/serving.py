"""``serve``: be a server until a signal ends it, then drain (promise P18).

Rules:

* SIGTERM and SIGINT drain: no new requests, open handlers finish, for ``drain`` seconds at most.
  A second signal does what it would do without us, at once.
* Signals are heeded from before the first request can come. They come to the main thread only.
  The handlers of before are put back at the end; a signal that was ignored stays ignored. In
  another thread ``serve`` ends with the peer, ``stay`` also by its ``Stop``.
* A signal's handler only leaves a word in a queue that may be written to from anywhere.
* Attaching waits in a thread of its own, so that whoever is told to stop meanwhile does.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TypeAlias, Unpack

from zbus.errors import ClosedError
from zbus.peer.channel import CONNECT_S, DRAIN_S, Attachment, Left, attach
from zbus.peer.credentials import ServerOptions, peer_options
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.peer import Peer
from zbus.peer.pool import HANDLERS
from zbus.protocol.session import SessionLimits

__all__ = ["Stop", "serve", "stay"]

_LOOK_S = 0.25
"""How often to look whether the peer has ended by itself."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_Before: TypeAlias = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


class Stop:
    """Ends a ``stay``, from any thread, handler or signal handler."""

    def __init__(self) -> None:
        self._words: SimpleQueue[None] = SimpleQueue()
        self._given = False

    def give(self) -> None:
        """End it; twice is as good as once."""
        self._given = True
        self._words.put(None)

    def nudge(self) -> None:
        """Do not end it, but let it look again whether it should go on."""
        self._words.put(None)

    @property
    def given(self) -> bool:
        """Whether it was."""
        return self._given

    def wait(self, timeout_s: float) -> bool:
        """Sleep until it is given, or for a while; whether it was given. For one thread."""
        if not self._given:
            with suppress(Empty):
                self._words.get(timeout=timeout_s)
        return self._given


def serve(
    dispatcher: Dispatcher,
    endpoint: str | None = None,
    *,
    name: str = "server",
    drain: float = DRAIN_S,
    timeout: float = CONNECT_S,
    **options: Unpack[ServerOptions],
) -> Left:
    """Serve a dispatcher's topics until SIGTERM or SIGINT, drain, and say what was left.

    Args:
        dispatcher: topics and their handlers.
        endpoint: the broker's backend; None for the default one.
        name: this server's name on the bus, unique there.
        drain: seconds for open handlers to finish.
        timeout: seconds to try before ``BrokerUnreachable``.
        options: ``handlers``, how many sync handlers run at once; ``key`` and ``server_key`` as
            for ``connect``.

    Raises:
        RefusedError: as for ``connect``; or later, when a newer start of this name took over.
    """
    how = Attachment(
        endpoint=endpoint,
        name=name,
        dispatcher=dispatcher,
        role="server",
        timeout=timeout,
        limits=SessionLimits(handlers=options.pop("handlers", HANDLERS)),
        **peer_options(options),
    )
    return stay(how, drain=drain)


def stay(
    how: Attachment,
    ready: Callable[[Peer], object] | None = None,
    stop: Stop | None = None,
    *,
    drain: float = DRAIN_S,
) -> Left:
    """Attach, call ``ready``, and leave the peer to its handlers until ``stop``, a signal or
    the peer's own end; then close it, and say what was left.

    Raises:
        ZbusError: as for ``connect``; or the broker sent this peer away for good.
    """
    stop = stop or Stop()
    with _heeding_signals(stop):
        peer = _attached(how, stop)
        if peer is None:
            return Left(0, 0, 0)
        try:
            if ready is not None:
                ready(peer)
            while peer.is_open and not stop.wait(_LOOK_S):
                pass
        finally:
            left = peer.close(drain=drain if stop.given else 0.0)
    if peer.error is not None and not isinstance(peer.error, ClosedError):
        raise peer.error
    return left


def _attached(how: Attachment, stop: Stop) -> Peer | None:
    """The peer; None if told to stop before a broker took it in."""
    attempt = _Attempt(how, stop)
    while not (attempt.is_over or stop.wait(_LOOK_S)):
        pass
    return attempt.end()


class _Attempt:
    """A thread that attaches."""

    def __init__(self, how: Attachment, stop: Stop) -> None:
        self._how = how
        self._stop = stop
        self._peer: Peer | None = None
        self._error: BaseException | None = None
        self._given_up = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._attach, name="zbus-attach", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether it has succeeded or failed."""
        return self._peer is not None or self._error is not None

    def end(self) -> Peer | None:
        """What came of it; one that is not over is given up, after a moment in which it may be.

        Raises:
            ZbusError: it failed.
        """
        self._thread.join(_LOOK_S)
        with self._lock:
            self._given_up = not self.is_over
        if self._error is not None:
            raise self._error
        return self._peer

    def _attach(self) -> None:
        peer: Peer | None = None
        error: BaseException | None = None
        try:
            peer = Peer(attach(self._how))
        except BaseException as raised:  # noqa: BLE001 - whoever waits for it raises it
            error = raised
        with self._lock:
            self._peer, self._error = peer, error
            given_up = self._given_up
        if given_up and peer is not None:
            peer.close(drain=0.0)
        self._stop.nudge()


@contextmanager
def _heeding_signals(stop: Stop) -> Iterator[None]:
    """SIGTERM and SIGINT give ``stop``, while this lasts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, _Before] = {}

    def heed(number: int, frame: FrameType | None) -> None:
        if stop.given:
            # The second one: what it did before we came, and at once.
            signal.signal(number, _restorable(before[number]))
            os.kill(os.getpid(), number)
        stop.give()

    number: int
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, heed)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, _restorable(handler))


def _restorable(handler: _Before) -> Callable[[int, FrameType | None], object] | int:
    """None is a handler that C set, which Python cannot put back."""
    return signal.SIG_DFL if handler is None else handler
