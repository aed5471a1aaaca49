"""One connection to the bus, without a face: what the blocking and the asyncio peer share.

Rules:

* Every call is checked for fork (P21) and close first, so that it raises instead of hanging.
* What is asked is checked and encoded in the caller's thread, before anything is locked; what
  the broker would not understand is refused here, since it would send the whole peer away.
* A caller's callback runs in a thread of its own, never in one that others wait for.
* ``close`` finishes what is open, for as long as it may, and leaves no thread, descriptor or
  file behind (P24). A channel that nobody closes is closed when the interpreter ends.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

from zbus.errors import BrokerUnreachable, ClosedError, ForkedClientError, ZbusError
from zbus.peer.arguments import (
    RequestOptions,
    check_limits,
    check_options,
    deadline_of,
    one_of,
    seconds_of,
)
from zbus.peer.body import decode_body, encode_body
from zbus.peer.counters import PeerCounters, counters_of
from zbus.peer.credentials import Credentials, File
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.driver import Driver
from zbus.peer.link import Link, Observer
from zbus.peer.naming import another_life, default_endpoint, identify
from zbus.peer.pool import HandlerPool
from zbus.peer.quick import Quick
from zbus.peer.slot import Slot
from zbus.protocol.effect import Outcome
from zbus.protocol.message import Flag, Parcel, Reply, Role, Welcome
from zbus.protocol.requests import Ask
from zbus.protocol.session import Session, SessionLimits, State
from zbus.protocol.topics import check_name, check_topic
from zbus.transport.library import check_library
from zbus.transport.port import Network
from zbus.transport.sockets import ZmqNetwork

__all__ = [
    "CONNECT_S",
    "DRAIN_S",
    "Attachment",
    "Channel",
    "Left",
    "Unserved",
    "attach",
    "raise_error",
    "value_of",
]

T = TypeVar("T")
CONNECT_S = 5.0
"""How long ``connect`` tries before it says that no broker answers."""
DRAIN_S = 5.0
"""How long ``close`` lets open work finish."""
Unserved = Literal["raise", "wait"]
_ROLES = {"engine": Role.ENGINE, "server": Role.SERVER}
_FLAGS = {"raise": 0, "wait": int(Flag.WAIT)}
_PROBE = int(Flag.WAIT | Flag.PROBE)
_POLL_S = 0.002
_GOODBYE_S = 0.2
_LAST_WORD_S = 0.5
_EXIT_S = 1.0
_logger = logging.getLogger("zbus.peer")


class Left(NamedTuple):
    """What ``close`` could not finish: requests asked, handlers running, pushes unsettled."""

    requests: int
    handlers: int
    pushes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """How to attach; the arguments of ``connect``, which explains them."""

    endpoint: str | None = None
    name: str | None = None
    dispatcher: Dispatcher | None = None
    role: Literal["engine", "server"] = "engine"
    timeout: float = CONNECT_S
    limits: SessionLimits | None = None
    key: File | None = None
    server_key: File | Sequence[File] | None = None


class _Presence:
    """Whether the session was taken in, or has ended, for the one who waits for it."""

    def __init__(self) -> None:
        self.changed = threading.Event()
        self.taken_in = False
        self.error: ZbusError | None = None

    def attached(self, welcome: Welcome) -> None:
        self.taken_in = True
        self.changed.set()

    def ended(self, error: ZbusError) -> None:
        self.error = error
        self.changed.set()


class Channel:
    """Link, network, handlers and the driver that turns them."""

    def __init__(self, link: Link, network: Network, pool: HandlerPool | None) -> None:
        self._link = link
        self._network = network
        self._pool = pool
        self._driver = Driver(link, network, time.monotonic, Quick(pool) if pool else None)
        # Reentrant, since a signal's handler may close what this thread is just closing.
        self._closing = threading.RLock()
        self._left: Left | None = None
        self._presence = _Presence()
        self._callbacks: ThreadPoolExecutor | None = None
        self._callbacks_made = threading.Lock()
        _channels.add(self)

    # -- asking ----------------------------------------------------------------------------

    def prepare(
        self,
        topic: str,
        body: Any,
        timeout: float,
        to: str = "",
        unserved: Unserved = "raise",
        options: RequestOptions | None = None,
    ) -> Ask:
        """A request, checked and encoded but not sent. Its time runs from here."""
        self._driver.check()
        check_name(topic, "topic")
        if to != "":
            check_name(to)
        flags = one_of(_FLAGS, unserved, "unserved")
        deadline = deadline_of(timeout)
        encoded, frames = encode_body(body)
        ask = Ask(topic, encoded, deadline, frames, to, flags)
        if options:
            check_options(options)
            ask.trace, progress = options.get("trace", ""), options.get("progress")
            ask.progress = None if progress is None else partial(self.call_back, progress)
        return ask

    def prepare_probe(self, topic: str, timeout: float) -> Ask:
        """A request that the broker answers once ``topic`` is served."""
        self._driver.check()
        return Ask(check_topic(topic), b"", deadline_of(timeout), flags=_PROBE)

    def begin(self, ask: Ask, on_end: Callable[[Outcome], None]) -> int:
        """Send it; ``on_end`` is called once, from the I/O thread, and must not block."""
        return self._driver.call(lambda link, now: link.request(ask, on_end, now))

    def converse(self, ask: Ask) -> Outcome:
        """Send it and wait for its end."""
        slot = Slot(ask.deadline)
        try:
            return self._driver.converse(lambda link, now: link.request(ask, slot.end, now), slot)
        except BaseException:
            # A signal's handler raised in this thread: nobody waits for the reply any more.
            if ask.number:
                self.cancel(ask.number)
            raise

    def cancel(self, number: int) -> None:
        """Give a request up; nothing happens if it has ended, as all do when this is closed."""
        with suppress(ZbusError):
            self._driver.call(lambda link, now: link.cancel(number, now))

    def push(self, topic: str, body: Any) -> None:
        """Accept a push, or raise."""
        self._driver.check()
        check_topic(topic)
        encoded, frames = encode_body(body)
        self._driver.call(lambda link, now: link.push(topic, encoded, frames), turn=True)

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called once no push is unsettled; it must not block, nor raise."""
        try:
            self._driver.call(lambda link, now: link.when_settled(callback))
        except ClosedError:
            callback()

    def forget_callback(self, callback: Callable[[], None]) -> None:
        """Nobody waits for ``when_settled`` any more."""
        with suppress(ZbusError):
            self._driver.call(lambda link, now: link.forget_callback(callback))

    def flush(self, timeout: float) -> int:
        """Wait until no push is unsettled; how many are, when the time is up."""
        deadline = deadline_of(timeout)
        settled = threading.Event()
        self.when_settled(settled.set)
        try:
            settled.wait(deadline - time.monotonic())
        finally:
            self.forget_callback(settled.set)
        return self.counters().unsettled

    def call_back(self, callback: Callable[[T], object], argument: T) -> None:
        """Run a caller's callback where it can keep nobody waiting but other callbacks."""
        with self._callbacks_made:
            if self._callbacks is None:
                self._callbacks = ThreadPoolExecutor(1, thread_name_prefix="zbus-callbacks")
        try:
            self._callbacks.submit(_called_back, callback, argument)
        except RuntimeError:
            # The thread has ended, because this is closed or the interpreter is. Whoever adds a
            # callback now has it called at once, as with any future.
            if not self._driver.is_own_thread():
                _called_back(callback, argument)

    # -- looking ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name this peer has on the bus."""
        return self._link.session.identity.name

    @property
    def is_attached(self) -> bool:
        """Whether the broker has taken us in, and is not lost."""
        return self._link.session.state is State.OPEN

    @property
    def is_open(self) -> bool:
        """Whether this connection has not ended: closed by us, or for good by the broker."""
        return self._driver.is_running and self._link.session.state is not State.ENDED

    @property
    def error(self) -> ZbusError | None:
        """Why this connection has ended; None while it has not."""
        return self._presence.error

    def counters(self) -> PeerCounters:
        """What was counted until now, all at one instant; also after ``close``."""
        try:
            return self._driver.call(lambda link, now: counters_of(link))
        except (ClosedError, ForkedClientError):
            return counters_of(self._link)

    # -- attaching and closing -------------------------------------------------------------

    def attach(self, presence: _Presence, deadline: float) -> None:
        """Begin, and wait until a broker has taken us in or refused."""
        self._presence = presence
        try:
            self._driver.start()
            presence.changed.wait(max(deadline - time.monotonic(), 0.0))
        except BaseException:
            # No such address, or a signal's handler raised.
            self.close(0.0)
            raise
        if presence.taken_in and presence.error is None:
            return
        refusal = presence.error or self._link.session.refusal
        self.close(0.0)
        raise refusal or BrokerUnreachable(f"no broker answers at {self._link.endpoint}")

    def refused(self, error: ZbusError, final: bool) -> None:
        """The broker's doors do not let us in; called from within a turn. Whoever was taken in
        goes on trying, unless it is final."""
        if not self._presence.taken_in:
            self._presence.ended(error)
        elif final:
            self.call_back(self._fail, error)

    def _fail(self, error: ZbusError) -> None:
        with suppress(ZbusError):
            self._driver.call(lambda link, now: link.fail(error, now))

    def close(self, drain_s: float) -> Left:
        """Finish what is open for ``drain_s`` at most, and leave. A second call returns what
        the first one did."""
        deadline = time.monotonic() + seconds_of(drain_s, "drain")
        if self._driver.origin.is_elsewhere:
            return Left(0, 0, 0)
        with self._closing:
            if self._left is None:
                self._left = self._close(deadline)
            return self._left

    def _close(self, deadline: float) -> Left:
        if self.is_open:
            self._withdraw(deadline)
            while not self._link.session.idle and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        handlers = 0
        if self._pool is not None:
            handlers = self._pool.close(max(deadline - time.monotonic(), 0.0))
        self._hand_over_the_last()
        requests = len(self._link.session.asker)
        self._driver.stop(_GOODBYE_S)
        if self._callbacks is not None:
            self._callbacks.shutdown(wait=False)
        _channels.discard(self)
        return Left(requests, handlers, self.counters().unsettled)

    def _withdraw(self, deadline: float) -> None:
        """Serve nothing new, and hear what the broker gave us before it knew that: its answer
        to a question comes after all of it (P18)."""
        topics = self._link.session.topics
        if not topics:
            return
        with suppress(ZbusError):
            self._driver.call(lambda link, now: link.serve((), topics, now))
            patience_s = min(deadline - time.monotonic(), _LAST_WORD_S)
            if patience_s > 0:
                self.converse(self.prepare("zbus.ping", None, patience_s))

    def _hand_over_the_last(self) -> None:
        # The last replies and credits go to a socket that is connected, or not at all.
        deadline = time.monotonic() + _GOODBYE_S
        while self.is_attached and not self._link.is_flushed and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def attach(how: Attachment) -> Channel:
    """A channel that is attached to a broker; errors as for ``connect``."""
    check_library()
    deadline = deadline_of(how.timeout)
    kind = one_of(_ROLES, how.role, "role")
    limits = how.limits or SessionLimits()
    check_limits(limits)
    dispatcher = how.dispatcher
    presence = _Presence()
    endpoint = how.endpoint or default_endpoint(kind)
    made: list[Channel] = []
    credentials = Credentials(
        endpoint, {"key": how.key, "server_key": how.server_key}, lambda *why: made[0].refused(*why)
    )
    session = Session(
        another_life(credentials.named(identify(how.name, kind), how.name)),
        dispatcher.topics if dispatcher is not None else (),
        limits,
        now=time.monotonic(),
    )
    network = ZmqNetwork(gate=credentials.gate)
    pool = HandlerPool(dispatcher, size=limits.handlers) if dispatcher is not None else None
    observer = Observer(attached=presence.attached, ended=presence.ended)
    channel = Channel(Link(network, endpoint, session, pool, observer), network, pool)
    made.append(channel)
    channel.attach(presence, deadline)
    return channel


def _called_back(callback: Callable[[T], object], argument: T) -> None:
    try:
        callback(argument)
    except Exception:
        _logger.exception("a callback raised")


def raise_error(outcome: Outcome) -> None:
    """Raise the error that a request ended with, if it did."""
    if not isinstance(outcome, Parcel):
        raise outcome


def value_of(outcome: Outcome) -> Any:
    """The body of a reply; an error is raised."""
    raise_error(outcome)
    assert isinstance(outcome, Parcel)
    item = outcome.item
    assert isinstance(item, Reply)
    return decode_body(item.body, outcome.frames)


_channels: set[Channel] = set()
"""Those that are open: each has a thread, and is not gone because nobody refers to it."""


@atexit.register
def _close_all() -> None:
    """What was accepted is handed over before the interpreter ends, where there is a broker."""
    for channel in list(_channels):
        with suppress(ZbusError):
            channel.close(_EXIT_S)
