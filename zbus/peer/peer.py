"""The blocking face: ``connect``, and the ``Peer`` that it gives, for any number of threads.

Rules:

* Every request ends in exactly one outcome, on time (P1, P2): its reply is returned or its error
  is raised, and the error says whether the handler ran (P4).
* ``push`` never waits: it accepts, or raises ``Backpressure`` (P7).
* Nothing here knows how: the ``Channel`` does, and ``zbus.aio`` is the same channel awaited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from types import TracebackType
from typing import Any, Literal, Self, Unpack

from zbus.errors import ZbusError
from zbus.peer.arguments import RequestOptions
from zbus.peer.channel import (
    CONNECT_S,
    DRAIN_S,
    Attachment,
    Channel,
    Left,
    Unserved,
    attach,
    raise_error,
    value_of,
)
from zbus.peer.counters import PeerCounters
from zbus.peer.credentials import PeerOptions, peer_options
from zbus.peer.dispatcher import Dispatcher
from zbus.protocol.effect import Outcome
from zbus.protocol.topics import check_name

__all__ = ["Peer", "Reply", "connect"]


class Peer:
    """One connection to the bus. Made by ``connect``; safe for any number of threads.

    A broker that goes away is a pause: open requests wait for it until their own deadline.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def request(
        self,
        topic: str,
        body: Any = None,
        *,
        timeout: float,
        to: str = "",
        unserved: Unserved = "raise",
        **options: Unpack[RequestOptions],
    ) -> Any:
        """Ask, and wait for the reply's body.

        Args:
            topic: what is asked for; any server that serves it answers.
            body: plain values and arrays; see ``docs/reference.md``.
            timeout: seconds until the request has ended, whatever happens.
            to: ask the peer of this name instead.
            unserved: ``"wait"`` lets the request wait until somebody serves the topic.
            trace: a W3C trace context that travels along.
            progress: is called with a ``Progress`` now and then while a large body of this
                request, its own or its reply's, is under way; in a thread of its own.

        Raises:
            RequestError: it ended without a reply; ``executed`` says whether the handler ran.
            CallerError: it could not be asked at all.
        """
        channel = self._channel
        ask = channel.prepare(topic, body, timeout, to, unserved, options)
        return value_of(channel.converse(ask))

    def submit(
        self,
        topic: str,
        body: Any = None,
        *,
        timeout: float,
        to: str = "",
        unserved: Unserved = "raise",
        **options: Unpack[RequestOptions],
    ) -> Reply:
        """Ask without waiting: a future of what ``request`` returns or raises."""
        channel = self._channel
        ask = channel.prepare(topic, body, timeout, to, unserved, options)
        future = Reply(channel)
        future.number = channel.begin(ask, future.end)
        return future

    def request_all(
        self,
        targets: Iterable[str],
        topic: str,
        body: Any = None,
        *,
        timeout: float,
    ) -> dict[str, Any]:
        """Ask several peers at once: ``{name: reply or error}``, with an entry for each name."""
        futures: dict[str, Reply | ZbusError] = {}
        for target in dict.fromkeys(targets):
            try:
                check_name(target)
                futures[target] = self.submit(topic, body, timeout=timeout, to=target)
            except ZbusError as error:
                futures[target] = error
        return {target: _outcome(future) for target, future in futures.items()}

    def wait_served(self, topic: str, *, timeout: float) -> None:
        """Wait until some server serves ``topic``; raises ``RequestTimeout`` if none does."""
        raise_error(self._channel.converse(self._channel.prepare_probe(topic, timeout)))

    def push(self, topic: str, body: Any = None) -> None:
        """Send and forget, in order. Returns once it is accepted; never waits.

        Raises:
            Backpressure: the bound on unsettled pushes is reached; nothing was accepted.
            CallerError: it could not be sent at all.
        """
        self._channel.push(topic, body)

    def flush(self, *, timeout: float) -> int:
        """Wait until every accepted push is settled; how many are not, when the time is up or
        this peer has ended."""
        return self._channel.flush(timeout)

    @property
    def name(self) -> str:
        """The name this peer has on the bus."""
        return self._channel.name

    @property
    def is_attached(self) -> bool:
        """Whether the broker has taken us in, and is not lost."""
        return self._channel.is_attached

    @property
    def is_open(self) -> bool:
        """Whether this peer has not ended: closed here, or sent away for good by the broker."""
        return self._channel.is_open

    @property
    def error(self) -> ZbusError | None:
        """Why this peer has ended: ``ClosedError`` if closed here; None while it is open."""
        return self._channel.error

    def counters(self) -> PeerCounters:
        """What was counted until now, all at one instant."""
        return self._channel.counters()

    def close(self, *, drain: float = DRAIN_S) -> Left:
        """Finish what is open, for ``drain`` seconds at most, and leave the bus.

        Serves no new requests meanwhile. A second call returns what the first one did.
        """
        return self._channel.close(drain)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(drain=DRAIN_S if kind is None else 0.0)


class Reply(Future[Any]):
    """A submitted request: a standard future, whose ``cancel`` gives the request up.

    Its callbacks run in a thread of their own and its body is decoded by whoever asks for the
    result, so that the I/O thread never waits for either.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.number = 0
        self._channel = channel

    def end(self, outcome: Outcome) -> None:
        """The request ended; called once, from within the link."""
        try:
            if isinstance(outcome, ZbusError):
                self.set_exception(outcome)
            else:
                self.set_result(outcome)
        except InvalidStateError:
            # It was cancelled just now. Who waits with ``wait`` or ``as_completed`` is told here.
            self.set_running_or_notify_cancel()

    def result(self, timeout: float | None = None) -> Any:
        """The reply's body; raises what ``Peer.request`` raises."""
        return value_of(super().result(timeout))

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call ``fn`` with this future once it is done, in a thread that is ours."""
        super().add_done_callback(lambda future: self._channel.call_back(fn, future))

    def cancel(self) -> bool:
        """Give it up, and tell its handler. False if it has ended already."""
        cancelled = super().cancel()
        if cancelled:
            self._channel.cancel(self.number)
        return cancelled


def connect(
    endpoint: str | None = None,
    name: str | None = None,
    *,
    dispatcher: Dispatcher | None = None,
    role: Literal["engine", "server"] = "engine",
    timeout: float = CONNECT_S,
    **options: Unpack[PeerOptions],
) -> Peer:
    """Attach to a broker.

    Args:
        endpoint: the broker's frontend, or its backend for a server; None for the default one.
        name: this peer's name on the bus, unique there; None makes one up.
        dispatcher: handlers to serve; an engine's are reached by name, a server's by topic.
        role: ``"server"`` at the backend.
        timeout: seconds to try before ``BrokerUnreachable``.
        options: ``limits``, what this peer bounds on its own side, such as the handlers that run
            at once; and over tcp ``key``, the file of this peer's secret key, and ``server_key``,
            that of the broker's public one, or several; else $ZBUS_KEY and $ZBUS_SERVER_KEY.

    Raises:
        AuthFailed: the broker and this peer do not trust each other's keys, and why.
        BrokerUnreachable: no broker answered in time.
        RefusedError: a broker answered, and refused: name taken, superseded, full, denied.
    """
    how = Attachment(
        endpoint=endpoint,
        name=name,
        dispatcher=dispatcher,
        role=role,
        timeout=timeout,
        **peer_options(options),
    )
    return Peer(attach(how))


def _outcome(future: Reply | ZbusError) -> Any:
    if isinstance(future, ZbusError):
        return future
    try:
        return future.result()
    except ZbusError as error:
        return error
