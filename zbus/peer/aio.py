"""The asyncio face: the same names as the blocking one, awaited.

It is the same ``Channel`` with its own I/O thread, so that a blocked event loop never keeps a
heartbeat waiting. Rules:

* An outcome reaches its loop by ``call_soon_threadsafe``, whichever loop asked. One whose loop is
  closed reaches nobody, and hurts nobody.
* A cancelled task gives its request up, and the handler is told.
* What nobody awaits is nobody's warning: an error that is not looked at is not logged.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, Unpack

from zbus.errors import ZbusError
from zbus.peer.arguments import RequestOptions, deadline_of, seconds_of
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
from zbus.protocol.requests import Ask
from zbus.protocol.topics import check_name

__all__ = ["Connecting", "Peer", "connect"]


class Peer:
    """One connection to the bus, for the tasks of any event loop."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def request(
        self,
        topic: str,
        body: Any = None,
        *,
        timeout: float,
        to: str = "",
        unserved: Unserved = "raise",
        **options: Unpack[RequestOptions],
    ) -> Any:
        """Ask, and await the reply's body. Arguments and errors as for ``zbus.Peer.request``, but
        that ``progress`` is called by this loop."""
        ask = self._prepare(topic, body, timeout, to, unserved, options)
        return value_of(await self._end_of(ask))

    async def submit(
        self,
        topic: str,
        body: Any = None,
        *,
        timeout: float,
        to: str = "",
        unserved: Unserved = "raise",
        **options: Unpack[RequestOptions],
    ) -> asyncio.Future[Any]:
        """Ask without waiting: it has been sent when this returns, and what comes is a future
        of what ``request`` returns or raises. Its ``cancel`` gives the request up."""
        channel = self._channel
        ask = self._prepare(topic, body, timeout, to, unserved, options)
        waiter = _Waiter()
        number = channel.begin(ask, waiter.end_with_value)
        waiter.future.add_done_callback(
            lambda future: channel.cancel(number) if future.cancelled() else None
        )
        return waiter.future

    def _prepare(
        self,
        topic: str,
        body: Any,
        timeout: float,
        to: str,
        unserved: Unserved,
        options: RequestOptions,
    ) -> Ask:
        ask = self._channel.prepare(topic, body, timeout, to, unserved, options)
        progress = options.get("progress")
        if progress is not None:
            ask.progress = partial(_post, asyncio.get_running_loop(), progress)
        return ask

    async def request_all(
        self,
        targets: Iterable[str],
        topic: str,
        body: Any = None,
        *,
        timeout: float,
    ) -> dict[str, Any]:
        """Ask several peers at once: ``{name: reply or error}``, with an entry for each name."""
        names = list(dict.fromkeys(targets))
        outcomes = await asyncio.gather(
            *(self._outcome_of(name, topic, body, timeout) for name in names)
        )
        return dict(zip(names, outcomes, strict=True))

    async def wait_served(self, topic: str, *, timeout: float) -> None:
        """Wait until some server serves ``topic``; raises ``RequestTimeout`` if none does."""
        raise_error(await self._end_of(self._channel.prepare_probe(topic, timeout)))

    async def push(self, topic: str, body: Any = None) -> None:
        """Send and forget, in order; never waits. Errors as for ``zbus.Peer.push``."""
        self._channel.push(topic, body)

    async def flush(self, *, timeout: float) -> int:
        """Wait until every accepted push is settled; how many are not, when the time is up or
        this peer has ended."""
        deadline_of(timeout)
        waiter = _Waiter()
        told = partial(waiter.end, None)
        self._channel.when_settled(told)
        try:
            await asyncio.wait((waiter.future,), timeout=seconds_of(timeout, "timeout"))
        finally:
            self._channel.forget_callback(told)
        return self.counters().unsettled

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

    async def close(self, *, drain: float = DRAIN_S) -> Left:
        """Finish what is open, for ``drain`` seconds at most, and leave the bus. It goes on to
        its end also where the task that awaits it is cancelled."""
        seconds_of(drain, "drain")
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(None, self._channel.close, drain))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(drain=DRAIN_S if kind is None else 0.0)

    async def _outcome_of(self, name: str, topic: str, body: Any, timeout: float) -> Any:
        try:
            return await self.request(topic, body, timeout=timeout, to=check_name(name))
        except ZbusError as error:
            return error

    async def _end_of(self, ask: Ask) -> Outcome:
        waiter = _Waiter()
        number = self._channel.begin(ask, waiter.end)
        try:
            outcome: Outcome = await waiter.future
        except asyncio.CancelledError:
            self._channel.cancel(number)
            raise
        return outcome


class _Waiter:
    """Carries what ends in another thread to a task of this loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()

    def end(self, outcome: object) -> None:
        """The future's result is the outcome itself. From any thread."""
        _post(self._loop, self._set_outcome, outcome)

    def end_with_value(self, outcome: Outcome) -> None:
        """The future's result is the reply's body. From any thread."""
        _post(self._loop, self._set_value, outcome)

    def _set_outcome(self, outcome: object) -> None:
        if not self.future.done():
            self.future.set_result(outcome)

    def _set_value(self, outcome: Outcome) -> None:
        if self.future.done():
            return
        try:
            self.future.set_result(value_of(outcome))
        except ZbusError as error:
            self.future.set_exception(error)
            self.future.exception()  # which counts as looked at


def _post(
    loop: asyncio.AbstractEventLoop, deliver: Callable[[Any], object], outcome: object
) -> None:
    try:
        loop.call_soon_threadsafe(deliver, outcome)
    except RuntimeError:
        return  # the loop is closed: nobody waits any more


class Connecting(Coroutine[Any, Any, Peer]):
    """An attempt to attach: ``await`` it for a peer, or enter it with ``async with``, which
    closes the peer at the end."""

    def __init__(self, how: Attachment) -> None:
        self._attempt = _attached(how)
        self._peer: Peer | None = None

    def __await__(self) -> Generator[Any, None, Peer]:
        return self._attempt.__await__()

    def send(self, value: Any) -> Any:
        """See ``Coroutine``; so are the next two."""
        return self._attempt.send(value)

    def throw(self, *error: Any) -> Any:
        return self._attempt.throw(*error)

    def close(self) -> None:
        self._attempt.close()

    async def __aenter__(self) -> Peer:
        self._peer = await self._attempt
        return self._peer

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._peer is not None
        await self._peer.__aexit__(kind, error, trace)


class _Attempt:
    """Attaches in a thread; a peer that comes after it was given up is closed again."""

    def __init__(self, how: Attachment) -> None:
        self._how = how
        self._channel: Channel | None = None
        self._given_up = False

    def attach(self) -> Channel:
        # Each side writes its own word and then reads the other's, so one of them closes it.
        self._channel = channel = attach(self._how)
        if self._given_up:
            channel.close(0.0)
        return channel

    def give_up(self) -> None:
        self._given_up = True
        if self._channel is not None:
            threading.Thread(target=self._channel.close, args=(0.0,), daemon=True).start()


async def _attached(how: Attachment) -> Peer:
    attempt = _Attempt(how)
    try:
        return Peer(await asyncio.to_thread(attempt.attach))
    except asyncio.CancelledError:
        attempt.give_up()
        raise


def connect(
    endpoint: str | None = None,
    name: str | None = None,
    *,
    dispatcher: Dispatcher | None = None,
    role: Literal["engine", "server"] = "engine",
    timeout: float = CONNECT_S,
    **options: Unpack[PeerOptions],
) -> Connecting:
    """Attach to a broker. Arguments and errors as for ``zbus.connect``."""
    how = Attachment(
        endpoint=endpoint,
        name=name,
        dispatcher=dispatcher,
        role=role,
        timeout=timeout,
        **peer_options(options),
    )
    return Connecting(how)
