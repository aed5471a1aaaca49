"""Topics and their handlers, and one call to a handler, whatever it does.

Rules:

* A topic has one handler. It takes ``(body, request)`` or only ``(body)``, and is a function or
  a coroutine function; which of these is looked at once, when it is added.
* ``perform`` and ``perform_async`` never raise: whatever a handler raises, ``SystemExit`` and
  ``RecursionError`` included, becomes a result (P12). The traceback goes to the log
  ``zbus.handler`` of this process, and never over the wire.
* A handler whose caller has gone, or whose time is up, is not started (P2).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from zbus.errors import (
    BadReply,
    Cancelled,
    DuplicateTopic,
    Executed,
    HandlerError,
    Malformed,
    RequestTimeout,
    TooLarge,
    UnencodableBody,
    ZbusError,
)
from zbus.peer.body import decode_body, encode_body
from zbus.peer.call import DONE, Call, Result, Returned
from zbus.protocol.message import as_text
from zbus.protocol.topics import check_topic

__all__ = ["Clock", "Dispatcher", "Handler", "Incoming", "perform", "perform_async"]

Clock = Callable[[], float]
_F = TypeVar("_F", bound=Callable[..., Any])
_RAISED_MAX = 500
"""Characters of what an exception says that travel to the caller."""
_SHAPE = "a handler takes (body, request) or (body)"
_logger = logging.getLogger("zbus.handler")


class Incoming:
    """The request, or push, that a handler is called for: its second argument."""

    __slots__ = ("_call", "_clock")

    def __init__(self, call: Call, clock: Clock) -> None:
        self._call = call
        self._clock = clock

    @property
    def source(self) -> str:
        """The name of the peer that asks. The broker vouches for it."""
        return self._call.source

    @property
    def topic(self) -> str:
        """What is asked for; one handler may serve several topics."""
        return self._call.topic

    @property
    def trace(self) -> str:
        """The caller's W3C trace context; empty where it gave none."""
        return self._call.trace

    @property
    def is_push(self) -> bool:
        """Whether this is a push: nobody waits, and what the handler returns is dropped."""
        return self._call.deadline is None

    def remaining(self) -> float:
        """Seconds until the caller's time is up: 0.0 once it is, infinity for a push."""
        deadline = self._call.deadline
        return math.inf if deadline is None else max(0.0, deadline - self._clock())

    @property
    def cancelled(self) -> bool:
        """Whether there is no use in going on: the caller gave up, its time is up, or this peer
        has closed. A handler that takes long should look from time to time."""
        return self._call.cancelled or self.remaining() <= 0.0

    def __repr__(self) -> str:
        return f"<Incoming {self.topic!r} from {self.source!r}>"


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that serves a topic, and how it wants to be called."""

    function: Callable[..., Any]
    takes_request: bool
    is_async: bool


class Dispatcher:
    """The table of handlers that a peer serves.

        dispatcher = zbus.Dispatcher()

        @dispatcher.on("job.submit")
        def submit(body, request):
            return {"accepted": body["id"]}

    Handlers of several requests run at once, so what they share must be thread-safe. Pushes of
    one sender and topic come one at a time, in order.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def on(self, topic: str) -> Callable[[_F], _F]:
        """Decorate the handler of a topic. The function is returned as it is."""

        def decorate(handler: _F) -> _F:
            self.add(topic, handler)
            return handler

        return decorate

    def add(self, topic: str, handler: Callable[..., Any]) -> None:
        """Serve a topic with this function.

        Raises:
            InvalidName: the topic breaks the grammar, or is the broker's own.
            DuplicateTopic: the topic has a handler.
            TypeError: the function takes neither ``(body, request)`` nor ``(body)``.
        """
        added = _examined(handler)
        if self._handlers.setdefault(check_topic(topic), added) is not added:
            raise DuplicateTopic(f"topic {topic!r} already has a handler")

    @property
    def topics(self) -> tuple[str, ...]:
        """What is served, sorted."""
        return tuple(sorted(self._handlers))

    def handler(self, topic: str) -> Handler | None:
        """The handler of a topic, if it has one."""
        return self._handlers.get(topic)


def _examined(function: Callable[..., Any]) -> Handler:
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    if not inspect.isroutine(target) and not inspect.isclass(target):
        target = getattr(target, "__call__", target)  # noqa: B004 - an object that is callable
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise TypeError(f"{function!r} is a generator; a handler returns one reply")
    return Handler(function, _takes_request(function), inspect.iscoroutinefunction(target))


def _takes_request(function: Callable[..., Any]) -> bool:
    """Whether the function is to be given the request: it has a second parameter that must be
    filled, or is called ``request``. One with a default and another name is the function's own."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise TypeError(f"{function!r} does not tell its parameters; {_SHAPE}") from None
    except TypeError:
        raise TypeError(f"{function!r} is no function; {_SHAPE}") from None
    keyword_only = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    places = [each for each in signature.parameters.values() if each.kind not in keyword_only]
    wanted = _wants_request(places[1]) if len(places) > 1 else _is_open(places)
    try:
        signature.bind(*(None, None) if wanted else (None,))
    except TypeError:
        raise TypeError(f"{function!r} has the parameters {signature}; {_SHAPE}") from None
    return wanted


def _wants_request(second: inspect.Parameter) -> bool:
    return second.name == "request" or second.default is inspect.Parameter.empty


def _is_open(places: list[inspect.Parameter]) -> bool:
    return bool(places) and places[0].kind is inspect.Parameter.VAR_POSITIONAL


# -- one call -------------------------------------------------------------------------------


def perform(handler: Handler, call: Call, clock: Clock) -> Result:
    """Decode, call the handler, encode. Never raises."""
    deadline = call.deadline
    if call.cancelled or (deadline is not None and clock() >= deadline):
        return _not_started(call)
    try:
        body = decode_body(call.body, call.frames)
    except Malformed as error:
        return error
    try:
        if handler.takes_request:
            value = handler.function(body, Incoming(call, clock))
        else:
            value = handler.function(body)
    except BaseException as error:  # noqa: BLE001 - promise P12
        return _raised(call, error)
    return _ended(call, value)


async def perform_async(handler: Handler, call: Call, clock: Clock) -> Result:
    """The same for a coroutine function, to be awaited on its event loop. It is interrupted by
    cancelling its task: ``Cancelled`` once the call is marked so, ``RequestTimeout`` after the
    deadline. Never raises."""
    deadline = call.deadline
    if call.cancelled or (deadline is not None and clock() >= deadline):
        return _not_started(call)
    try:
        body = decode_body(call.body, call.frames)
    except Malformed as error:
        return error
    try:
        if handler.takes_request:
            value = await handler.function(body, Incoming(call, clock))
        else:
            value = await handler.function(body)
    except asyncio.CancelledError as error:
        return _interrupted(call, clock, error)
    except BaseException as error:  # noqa: BLE001 - promise P12
        return _raised(call, error)
    return _ended(call, value)


def _not_started(call: Call) -> ZbusError:
    if call.cancelled:
        return Cancelled("the request was given up before its handler began", executed=Executed.NO)
    return RequestTimeout(
        f"the handler of {call.topic!r} could not begin in time", executed=Executed.NO
    )


def _interrupted(call: Call, clock: Clock, error: asyncio.CancelledError) -> ZbusError:
    if call.cancelled:
        return Cancelled("the handler was interrupted", executed=Executed.YES)
    if call.deadline is not None and clock() >= call.deadline:
        return RequestTimeout(
            f"the handler of {call.topic!r} was interrupted at the deadline", executed=Executed.YES
        )
    return _raised(call, error)


def _raised(call: Call, error: BaseException) -> HandlerError:
    _log(f"the handler of {call.topic!r} raised", error)
    return HandlerError(as_text(f"the handler of {call.topic!r} raised {_told(error)}"))


def _ended(call: Call, value: Any) -> Result:
    why = "an awaitable; a handler that awaits is declared with async def"
    try:
        if call.deadline is not None:
            return Returned(*encode_body(value))
        if not hasattr(type(value), "__await__"):
            return DONE
    except (UnencodableBody, TooLarge) as refusal:
        if not hasattr(type(value), "__await__"):
            why = refusal.what
    except BaseException as error:  # noqa: BLE001 - MemoryError, or a tzinfo of the handler's
        why = _told(error)
    if type(value) is types.CoroutineType:
        value.close()
    return _bad_reply(call, why)


def _bad_reply(call: Call, why: str) -> BadReply:
    text = as_text(f"the handler of {call.topic!r} returned what cannot be sent: {why}")
    _log(text, None)
    return BadReply(text)


def _told(error: BaseException) -> str:
    """The kind and the text of an exception whose own methods may raise, too."""
    try:
        text = str(error)[:_RAISED_MAX]
        kind = type(error).__name__
        return f"{kind}: {text}" if text else f"{kind}"
    except BaseException:  # noqa: BLE001 - promise P12
        return f"{type(error).__name__}, whose text cannot be had"


def _log(text: str, error: BaseException | None) -> None:
    try:
        _logger.error("%s", text, exc_info=error)
    except BaseException:  # noqa: BLE001 - a log that fails is no fault of this call
        return
