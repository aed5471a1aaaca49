"""Handlers are looked at once and called safely: whatever they do becomes one typed result."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.errors import (
    BadReply,
    Cancelled,
    DuplicateTopic,
    Executed,
    HandlerError,
    InvalidName,
    Malformed,
    RequestTimeout,
    ZbusError,
)
from zbus.peer.body import decode_body, encode_body
from zbus.peer.call import DONE, Call, Result, Returned
from zbus.peer.dispatcher import Dispatcher, Incoming, perform, perform_async
from zbus.protocol.limits import TEXT_MAX

NOW = 100.0


def name_of(value: object) -> str:
    """What a case is called: the same in every process, which a repr with an address is not."""
    return getattr(value, "__qualname__", "") or f"{value!r:.20}".partition(" at ")[0]


def clock() -> float:
    return NOW


def ignore(_result: Result) -> None:
    pass


def request_of(body: Any = None, deadline: float | None = NOW + 5.0, **more: Any) -> Call:
    packed, frames = encode_body(body)
    return Call("job.run", "engine-1", packed, frames, deadline, "00-trace", ignore, **more)


def result_of(function: Callable[..., Any], call: Call | None = None) -> Result:
    """What one call to this handler ends with, on a thread or on a loop as it needs."""
    dispatcher = Dispatcher()
    dispatcher.add("job.run", function)
    handler = dispatcher.handler("job.run")
    assert handler is not None
    call = request_of() if call is None else call
    if handler.is_async:
        return asyncio.run(perform_async(handler, call, clock))
    return perform(handler, call, clock)


def value_of(result: Result) -> Any:
    assert isinstance(result, Returned), result
    return decode_body(*result)


def error_of(result: Result, kind: type[ZbusError], executed: Executed) -> str:
    assert type(result) is kind, result
    assert result.executed is executed
    assert 0 < len(result.what) <= TEXT_MAX
    assert result.what.encode()
    return result.what


def both(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The function, and a coroutine function that does the same after a wait."""

    async def later(body: Any, request: Incoming) -> Any:
        await asyncio.sleep(0)
        return function(body, request)

    return [function, later]


# -- the table ------------------------------------------------------------------------------


def test_a_decorated_function_is_itself() -> None:
    """``on`` returns the function unchanged, so that a test can call it."""
    dispatcher = Dispatcher()

    @dispatcher.on("job.run")
    def work(body: Any, request: Any) -> Any:
        return body

    assert work("x", None) == "x"
    handler = dispatcher.handler("job.run")
    assert handler is not None
    assert handler.function is work
    assert dispatcher.handler("job.stop") is None


def test_topics_are_sorted_and_each_has_one_handler() -> None:
    """A second handler of a topic is refused and the first one stays."""
    dispatcher = Dispatcher()
    for topic in ("b", "a.x", "a"):
        dispatcher.add(topic, lambda body: 1)
    first = dispatcher.handler("a")
    with pytest.raises(DuplicateTopic, match="'a'"):
        dispatcher.add("a", lambda body: 2)
    assert dispatcher.topics == ("a", "a.x", "b")
    assert dispatcher.handler("a") is first


@pytest.mark.parametrize("topic", ["", "a..b", "a b", "zbus.ping", "x" * 256, "é", None, 7])
def test_a_wrong_topic_is_refused(topic: Any) -> None:
    """Topics keep the grammar, and those of the broker are the broker's."""
    dispatcher = Dispatcher()
    with pytest.raises(InvalidName):
        dispatcher.add(topic, lambda body: None)
    assert dispatcher.topics == ()


class Caller:
    def __call__(self, body: Any, request: Any) -> Any:
        return "both", body, request.topic

    def method(self, body: Any) -> Any:
        return "one", body

    async def coroutine(self, body: Any, request: Any) -> Any:
        return "both", body, request.topic


class AsyncCaller:
    async def __call__(self, body: Any) -> Any:
        return "one", body


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return inner


def two(body: Any, request: Incoming) -> Any:
    return "both", body, request.topic


def one(body: Any) -> Any:
    return "one", body


def other_option(body: Any, verbose: bool = False) -> Any:
    return "one" if verbose is False else "wrong", body


def optional(body: Any, request: Incoming | None = None) -> Any:
    assert request is not None
    return "both", body, request.topic


def any_number(*args: Any) -> Any:
    return "both", args[0], args[1].topic


def rest(body: Any, *more: Any, option: int = 1) -> Any:
    return "both", body, more[0].topic


def positional(body: Any, request: Any, /) -> Any:
    return "both", body, request.topic


def bound(first: Any, body: Any) -> Any:
    return "one", body


async def async_two(body: Any, request: Incoming) -> Any:
    return "both", body, request.topic


async def async_bound(first: Any, body: Any) -> Any:
    return "one", body


@pytest.mark.parametrize(
    "function",
    [
        two,
        one,
        other_option,
        optional,
        any_number,
        rest,
        positional,
        functools.partial(bound, 1),
        wrapped(two),
        wrapped(one),
        Caller(),
        Caller().method,
        Caller().coroutine,
        AsyncCaller(),
        async_two,
        functools.partial(async_bound, 1),
    ],
    ids=name_of,
)
def test_a_handler_gets_what_it_takes(function: Callable[..., Any]) -> None:
    """Functions, methods, partials, wrapped and callable objects, sync and async, with or
    without the request."""
    came = value_of(result_of(function, request_of({"id": 7})))
    assert came in (("both", {"id": 7}, "job.run"), ("one", {"id": 7}))


def nothing() -> None: ...
def three(body: Any, request: Any, more: Any) -> None: ...
def named(*, body: Any, request: Any) -> None: ...
def half_named(body: Any, *, request: Any) -> None: ...
def generates(body: Any, request: Any) -> Iterator[int]:
    yield 1


async def generates_async(body: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    "function",
    [nothing, three, named, half_named, generates, generates_async, 7, None, "text", dict],
    ids=name_of,
)
def test_a_handler_of_another_shape_is_refused_when_it_is_added(function: Any) -> None:
    """The error comes at registration, names the function and says the shape."""
    dispatcher = Dispatcher()
    with pytest.raises(TypeError, match="handler"):
        dispatcher.add("job.run", function)
    assert dispatcher.topics == ()


# -- the request ----------------------------------------------------------------------------


def test_a_handler_sees_who_asks_and_until_when() -> None:
    """The second argument has source, topic, trace and the seconds left."""
    seen: list[Any] = []

    def look(body: Any, request: Incoming) -> None:
        seen.append((request.source, request.topic, request.trace, request.is_push))
        seen.append((request.remaining(), request.cancelled, repr(request)))

    result_of(look)
    assert seen == [
        ("engine-1", "job.run", "00-trace", False),
        (5.0, False, "<Incoming 'job.run' from 'engine-1'>"),
    ]


def test_a_push_has_all_the_time() -> None:
    """A push has no deadline."""
    request = Incoming(request_of(deadline=None), clock)
    assert request.is_push
    assert request.remaining() == math.inf
    assert not request.cancelled


@pytest.mark.parametrize(
    ("deadline", "gone", "left", "cancelled"),
    [
        (NOW + 1, False, 1.0, False),
        (NOW, False, 0.0, True),
        (NOW - 9, False, 0.0, True),
        (NOW + 1, True, 1.0, True),
        (None, True, math.inf, True),
    ],
)
def test_cancelled_says_that_nobody_waits(
    deadline: float | None, gone: bool, left: float, cancelled: bool
) -> None:
    """It turns true when the caller gives up, and when the time is up."""
    request = Incoming(request_of(deadline=deadline, cancelled=gone), clock)
    assert (request.remaining(), request.cancelled) == (left, cancelled)


# -- one call -------------------------------------------------------------------------------


@given(st.none() | st.integers() | st.text() | st.lists(st.tuples(st.binary())))
def test_a_reply_is_what_the_handler_returned(value: Any) -> None:
    """The body goes in decoded and the return value comes out encoded."""
    for echo in both(lambda body, request: body):
        assert value_of(result_of(echo, request_of(value))) == value


def test_a_push_ends_well_whatever_its_handler_returns() -> None:
    """Nobody reads it, so it is not encoded."""
    for handler in both(lambda body, request: object()):
        assert result_of(handler, request_of(deadline=None)) is DONE


class Rude(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Ruder(Exception):
    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


class NoText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


class Slippery(str):
    def __getitem__(self, _key: Any) -> str:
        raise ValueError

    def __format__(self, _spec: str) -> str:
        raise ValueError


class Slick(Exception):
    def __str__(self) -> str:
        return Slippery("x")


def dig() -> None:
    dig()


def fail(error: BaseException) -> Callable[[Any, Any], Any]:
    def raises(_body: Any, _request: Any) -> Any:
        raise error

    return raises


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bad id 7"), "ValueError: bad id 7"),
        (Exception(), "Exception"),
        (BaseException("base"), "BaseException: base"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (asyncio.CancelledError("own"), "CancelledError: own"),
        (MemoryError(), "MemoryError"),
        (RecursionError("deep"), "RecursionError: deep"),
        (BaseExceptionGroup("two", [KeyboardInterrupt()]), "BaseExceptionGroup: two"),
        (Malformed("theirs"), "Malformed: theirs"),
        (RequestTimeout("of a nested request"), "RequestTimeout: of a nested request"),
        (Rude(), "Rude, whose text cannot be had"),
        (Ruder(), "Ruder, whose text cannot be had"),
        (NoText(), "NoText, whose text cannot be had"),
        (Slick(), "Slick, whose text cannot be had"),
        (ValueError("\ud800"), "ValueError: ?"),
        (ValueError("x" * 10_000), "ValueError: xxx"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else type(value).__name__,
)
def test_p12_whatever_a_handler_raises_is_a_handler_error(error: BaseException, text: str) -> None:
    """Any exception, also one that cannot be shown, is a short HandlerError that was run."""
    for raises in both(fail(error)):
        what = error_of(result_of(raises), HandlerError, Executed.YES)
        assert f"the handler of 'job.run' raised {text}" in what
        assert len(what) < 600
        result_of(raises, request_of(deadline=None))


def test_p12_endless_recursion_is_a_handler_error() -> None:
    """A handler that exhausts the stack ends like any other."""
    for digs in both(lambda body, request: dig()):
        assert "RecursionError" in error_of(result_of(digs), HandlerError, Executed.YES)


def test_the_traceback_is_logged_here_and_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    """The log of this peer has the traceback, the caller has one line."""
    caplog.set_level(logging.ERROR, "zbus.handler")
    result = result_of(fail(ValueError("bad id")))
    (record,) = caplog.records
    assert record.name == "zbus.handler"
    assert record.exc_info is not None
    assert "in raises" in caplog.text
    assert "Traceback" not in error_of(result, HandlerError, Executed.YES)


def test_a_log_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logging handler that raises, even SystemExit, does not touch the result."""

    def refuse(_record: logging.LogRecord) -> bool:
        raise SystemExit

    monkeypatch.setattr(logging.getLogger("zbus.handler"), "filters", [refuse])
    error_of(result_of(fail(ValueError("x"))), HandlerError, Executed.YES)


def cyclic() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def deep() -> Any:
    value: Any = 1
    for _ in range(600):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object(), "type object"),
        ({"a": [1, {2, object}]}, "body['a'][1]"),
        (cyclic(), "in itself"),
        (deep(), "in each other"),
        ("\ud800", "surrogates"),
        ([0.5] * 600_000, "besides its arrays"),
        (iter([]), "list_iterator"),
    ],
    ids=lambda value: str(type(value)),
)
def test_p12_what_cannot_be_sent_is_a_bad_reply(value: Any, text: str) -> None:
    """A return value that cannot be encoded is told to the caller, who knows that it was run."""
    for handler in both(lambda body, request: value):
        assert text in error_of(result_of(handler), BadReply, Executed.YES)


async def wait() -> int:
    return 1


class Soon:
    def __await__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize("make", [wait, Soon])
@pytest.mark.parametrize("deadline", [NOW + 5, None])
def test_an_awaitable_is_a_bad_reply(
    make: Callable[[], Awaitable[Any]], deadline: float | None
) -> None:
    """A function that returns an awaitable, for a push too, has not done its work: it is told
    so, and no coroutine is left that was never awaited."""
    result = result_of(lambda body, request: make(), request_of(deadline=deadline))
    assert "async def" in error_of(result, BadReply, Executed.YES)


def test_a_malformed_body_does_not_reach_the_handler() -> None:
    """The caller learns that it was not run."""
    for handler in both(fail(AssertionError("it was called"))):
        call = request_of()
        call.body = b"\xc1"
        error_of(result_of(handler, call), Malformed, Executed.NO)


@pytest.mark.parametrize("late_s", [0.0, 5.0])
def test_work_that_is_too_late_never_starts(late_s: float) -> None:
    """At its deadline and after it, a request is not begun."""
    for handler in both(fail(AssertionError("it was called"))):
        result = result_of(handler, request_of(deadline=NOW - late_s))
        error_of(result, RequestTimeout, Executed.NO)


@pytest.mark.parametrize("deadline", [NOW + 5, NOW - 5, None])
def test_work_that_was_given_up_never_starts(deadline: float | None) -> None:
    """A request whose caller gave up before is not begun."""
    for handler in both(fail(AssertionError("it was called"))):
        result = result_of(handler, request_of(deadline=deadline, cancelled=True))
        error_of(result, Cancelled, Executed.NO)


def test_an_interrupted_handler_says_why() -> None:
    """A cancelled task ends as Cancelled, RequestTimeout or HandlerError, whichever it was; and
    in each case the handler has begun."""

    def interrupted(act: Callable[[Call], object]) -> Result:
        call = request_of()

        async def stops(body: Any) -> None:
            act(call)
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(9)

        return result_of(stops, call)

    error_of(interrupted(lambda call: setattr(call, "cancelled", True)), Cancelled, Executed.YES)
    late = interrupted(lambda call: setattr(call, "deadline", NOW))
    error_of(late, RequestTimeout, Executed.YES)
    assert "CancelledError" in error_of(interrupted(id), HandlerError, Executed.YES)
