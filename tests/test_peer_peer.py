"""The blocking face, over real sockets: zbus/peer/peer.py."""

from __future__ import annotations

import concurrent.futures
import contextlib
import inspect
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S, HereBroker, Servant, broker, ended, in_a_thread, serving, until

import zbus
from zbus.errors import (
    Backpressure,
    BadReply,
    Cancelled,
    ClosedError,
    Executed,
    HandlerError,
    InvalidName,
    InvalidTimeout,
    Malformed,
    NoHandler,
    NoTarget,
    RequestTimeout,
    TooLarge,
    UnencodableBody,
)
from zbus.peer.body import encode_body
from zbus.peer.peer import Peer, Reply, connect
from zbus.peer.pool import HANDLERS
from zbus.protocol.effect import Outcome
from zbus.protocol.session import SessionLimits

pytestmark = pytest.mark.real


@pytest.fixture
def here(runtime_dir: Path) -> Iterator[HereBroker]:
    with broker(runtime_dir, heartbeat_s=0.2) as made:
        yield made


@pytest.fixture
def servant(here: HereBroker) -> Iterator[Servant]:
    made = Servant()
    made.dispatcher.add("raise", _raise)
    made.dispatcher.add("bad", lambda body: object())
    with serving(here, made):
        yield made


def _raise(body: Any) -> None:
    raise ValueError(body)


@pytest.fixture
def bus(here: HereBroker) -> Iterator[Peer]:
    made = connect(here.frontend, "engine")
    yield made
    made.close(drain=0.0)


# -- asking ---------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, 1, "x", b"x", [1, {"a": (2, 3)}], {"x" * 300: 1.5}])
def test_a_reply_is_the_body_that_the_handler_returned(
    servant: Servant, bus: Peer, body: Any
) -> None:
    """For a request, and for a future, which may be asked twice."""
    assert bus.request("echo", body, timeout=BOUND_S) == body
    future = bus.submit("echo", body, timeout=BOUND_S)
    assert future.result(BOUND_S) == body
    assert future.result() == body
    assert future.exception() is None


def test_p04_an_error_says_whether_the_handler_ran(servant: Servant, bus: Peer) -> None:
    """The same from a request as from a future."""
    for topic, kind, executed in (
        ("raise", HandlerError, Executed.YES),
        ("bad", BadReply, Executed.YES),
        ("nobody", NoHandler, Executed.NO),
    ):
        with pytest.raises(kind) as raised:
            bus.request(topic, "because", timeout=BOUND_S)
        assert raised.value.executed is executed
        failed = bus.submit(topic, "because", timeout=BOUND_S).exception(BOUND_S)
        assert isinstance(failed, kind)
        assert failed.executed is executed
    with pytest.raises(NoTarget):
        bus.request("echo", timeout=BOUND_S, to="nobody")


@pytest.mark.parametrize("timeout", [math.nan, math.inf, -math.inf, 0, -1, True, "1", None])
def test_a_timeout_is_required_and_a_time(bus: Peer, timeout: Any) -> None:
    """Every call that waits says so, and nothing is sent."""
    for call in (
        lambda: bus.request("zbus.ping", timeout=timeout),
        lambda: bus.submit("zbus.ping", timeout=timeout),
        lambda: bus.wait_served("echo", timeout=timeout),
        lambda: bus.flush(timeout=timeout),
    ):
        with pytest.raises(InvalidTimeout):
            call()
    assert bus.request_all(["engine"], "echo", timeout=timeout).keys() == {"engine"}
    assert bus.counters().open_requests == 0


def test_p02_a_future_ends_at_its_deadline(servant: Servant, bus: Peer) -> None:
    """Whether or not anybody waits for it."""
    began = time.monotonic()
    future = bus.submit("hold", timeout=0.2)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.05)
    assert isinstance(future.exception(BOUND_S), RequestTimeout)
    assert 0.2 <= time.monotonic() - began < 2.0


def test_unserved_wait_waits_for_a_server(here: HereBroker, bus: Peer) -> None:
    """And so does ``wait_served``; without it the topic is refused at once."""
    with pytest.raises(RequestTimeout):
        bus.wait_served("echo", timeout=0.1)
    with pytest.raises(NoHandler):
        bus.request("echo", 1, timeout=BOUND_S)
    future = bus.submit("echo", 1, timeout=BOUND_S, unserved="wait")
    thread, served = in_a_thread(lambda: bus.wait_served("echo", timeout=BOUND_S))
    with serving(here, Servant()):
        assert future.result(BOUND_S) == 1
        ended(thread)
        assert served == [None]


def test_request_all_has_an_entry_for_every_name(here: HereBroker, bus: Peer) -> None:
    """A reply, or the error: of who is not there, of who fails, and of what is no name."""
    dispatcher = zbus.Dispatcher()
    dispatcher.add("twice", lambda body: 2 * body)
    names: list[Any] = ["e1", "e2", "gone", "", "two words", None, 7, "e1"]
    with (
        connect(here.frontend, "e1", dispatcher=dispatcher),
        connect(here.frontend, "e2", dispatcher=zbus.Dispatcher()),
    ):
        outcomes = bus.request_all(names, "twice", 4, timeout=BOUND_S)
    assert list(outcomes) == list(dict.fromkeys(names))
    assert outcomes["e1"] == 8
    assert isinstance(outcomes["e2"], NoHandler)
    assert isinstance(outcomes["gone"], NoTarget)
    assert [type(outcomes[name]) for name in names[3:7]] == [InvalidName] * 4
    assert bus.request_all([], "twice", timeout=BOUND_S) == {}
    errors = bus.request_all(["e1", "e2"], "twice", object(), timeout=BOUND_S)
    assert [type(error) for error in errors.values()] == [UnencodableBody] * 2


def test_request_all_asks_at_once_and_not_one_after_the_other(
    here: HereBroker, servant: Servant, bus: Peer
) -> None:
    """Each name has the whole time."""
    began = time.monotonic()
    with connect(here.frontend, "e1", dispatcher=servant.dispatcher) as one:
        outcomes = bus.request_all(["server", one.name], "hold", timeout=0.3)
    assert [type(outcome) for outcome in outcomes.values()] == [RequestTimeout] * 2
    assert time.monotonic() - began < 0.6 + 1.0


# -- a reply that cannot be read ------------------------------------------------------------


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers whose replies are no body."""
    returned = encode_body

    def garble(value: Any) -> tuple[bytes, tuple[bytes | memoryview, ...]]:
        body, frames = returned(value)
        return (b"\xc1" + body, frames) if value == "garble" else (body, frames)

    monkeypatch.setattr("zbus.peer.dispatcher.encode_body", garble)


def test_a_reply_that_cannot_be_read_is_its_callers_trouble(
    unreadable: None, servant: Servant, bus: Peer
) -> None:
    """Malformed from the call, from ``result`` and in ``request_all``; the I/O thread goes on."""
    with pytest.raises(Malformed):
        bus.request("echo", "garble", timeout=BOUND_S)
    future = bus.submit("echo", "garble", timeout=BOUND_S)
    with pytest.raises(Malformed):
        future.result(BOUND_S)
    outcomes = bus.request_all(["server", "gone"], "echo", "garble", timeout=BOUND_S)
    assert [type(outcome) for outcome in outcomes.values()] == [Malformed, NoTarget]
    assert bus.request("echo", 1, timeout=BOUND_S) == 1


def test_a_reply_is_decoded_by_whoever_asks_for_it(
    servant: Servant, bus: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its thread, and not before."""
    decoders: list[str] = []

    def noted(outcome: Outcome) -> str:
        decoders.append(threading.current_thread().name)
        return "decoded"

    future = bus.submit("echo", 1, timeout=BOUND_S)
    until(future.done, "the reply")
    monkeypatch.setattr("zbus.peer.peer.value_of", noted)
    assert decoders == []
    thread, results = in_a_thread(future.result)
    ended(thread)
    assert (decoders, results) == (["other"], ["decoded"])


# -- futures --------------------------------------------------------------------------------


def test_a_cancelled_future_gives_its_request_up(servant: Servant, bus: Peer) -> None:
    """Its handler is told; whoever waits is told; a second cancel changes nothing."""
    future = bus.submit("hold", timeout=BOUND_S)
    until(lambda: servant.held, "the handler runs")
    assert future.cancel()
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(BOUND_S)
    until(lambda: servant.is_told(), "the handler is told")
    assert bus.counters().open_requests == 0
    done = bus.submit("echo", 1, timeout=BOUND_S)
    assert done.result(BOUND_S) == 1
    assert not done.cancel()


def test_the_standard_librarys_waits_work(servant: Servant, bus: Peer) -> None:
    """``wait`` and ``as_completed`` see each end: a reply, an error, a cancellation."""
    cancelled, failed, replied, held = (
        bus.submit(topic, 1, timeout=BOUND_S) for topic in ("hold", "raise", "echo", "hold")
    )
    cancelled.cancel()
    futures: list[Reply] = [cancelled, failed, replied]
    assert concurrent.futures.wait(futures, BOUND_S).not_done == set()
    assert set(concurrent.futures.as_completed(futures, BOUND_S)) == set(futures)
    waiting, finished = in_a_thread(lambda: concurrent.futures.wait([held], BOUND_S).done)
    until(lambda: held._waiters, "it waits")
    held.cancel()
    ended(waiting)
    assert finished == [{held}]


def test_cancel_and_reply_race_to_one_end(servant: Servant, bus: Peer) -> None:
    """From many threads at once: exactly one of the two, the callback once, and no more."""
    called: list[Any] = []

    def race(number: int) -> bool:
        future = bus.submit("echo", number, timeout=BOUND_S)
        future.add_done_callback(called.append)
        for _ in range(number % 7 * 500):
            pass  # so that the two meet at different moments
        cancelled = future.cancel()
        assert cancelled == future.cancelled()
        if not cancelled:
            assert future.result(BOUND_S) == number
        assert concurrent.futures.wait([future], BOUND_S).not_done == set()
        return cancelled

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(race, range(400)))
    until(lambda: len(called) == 400, "every callback")
    assert len(set(called)) == 400
    assert True in outcomes
    assert bus.counters().open_requests == 0


def test_callbacks_never_run_in_the_io_thread(servant: Servant, bus: Peer) -> None:
    """Nor in the thread that closes the bus; a callback may ask, and may close."""
    ran: list[str] = []

    def note(future: Any) -> None:
        ran.append(threading.current_thread().name)

    future = bus.submit("hold", timeout=BOUND_S)
    future.add_done_callback(note)
    bus.submit("echo", timeout=BOUND_S).add_done_callback(
        lambda future: ran.append(bus.request("echo", "asked", timeout=BOUND_S))
    )
    until(lambda: "asked" in ran, "the callback that asks")
    bus.submit("echo", timeout=BOUND_S).add_done_callback(lambda future: bus.close(drain=0.0))
    until(lambda: len(ran) == 2, "the callback of what was cancelled by the close")
    assert ran == ["asked", "zbus-callbacks_0"]
    assert isinstance(future.exception(), Cancelled)


def test_a_callback_added_later_is_called_all_the_same(servant: Servant, bus: Peer) -> None:
    """After the end, and after the bus was closed."""
    ran: list[Any] = []
    future = bus.submit("echo", 1, timeout=BOUND_S)
    assert future.result(BOUND_S) == 1
    future.add_done_callback(ran.append)
    until(lambda: ran == [future], "the callback")
    bus.close(drain=0.0)
    future.add_done_callback(ran.append)
    until(lambda: ran == [future, future], "the callback after the close")
    assert not future.cancel()


# -- pushing --------------------------------------------------------------------------------


def test_p07_a_full_bound_refuses_a_push_and_drops_none(here: HereBroker) -> None:
    """And takes the next one once there is room."""
    servant = Servant()
    with (
        serving(here, servant),
        connect(here.frontend, limits=SessionLimits(pushes=3)) as bus,
    ):
        for number in range(3):
            bus.push("wait", number)
        with pytest.raises(Backpressure) as refused:
            bus.push("wait", 3)
        assert refused.value.retry_after_s > 0
        assert bus.counters().accepted == 3
        servant.go_on.set()
        assert bus.flush(timeout=BOUND_S) == 0
        bus.push("wait", 3)
        assert bus.flush(timeout=BOUND_S) == 0
        assert bus.counters()[:4] == (4, 4, 0, 0)


def test_a_push_that_cannot_be_sent_raises_here(here: HereBroker, bus: Peer) -> None:
    """Nothing of it is accepted."""
    for topic, body, error in (
        ("two words", 1, InvalidName),
        ("zbus.own", 1, InvalidName),
        ("note", object(), UnencodableBody),
        ("note", b"x" * (here.settings.bounds.body_max_bytes + 1), TooLarge),
    ):
        with pytest.raises(error):
            bus.push(topic, body)
    assert bus.counters().accepted == 0


# -- its life -------------------------------------------------------------------------------


def test_a_block_closes_it_and_after_an_exception_at_once(
    here: HereBroker, servant: Servant
) -> None:
    """Without one, what is open may finish."""
    with connect(here.frontend) as bus:
        held = bus.submit("hold", 1, timeout=BOUND_S)
        until(lambda: servant.held, "the handler runs")
        threading.Timer(0.1, servant.go_on.set).start()
    assert held.result(0) == 1
    servant.go_on.clear()
    began = time.monotonic()
    with contextlib.suppress(LookupError), connect(here.frontend) as bus:
        held = bus.submit("hold", 1, timeout=BOUND_S)
        raise LookupError
    assert time.monotonic() - began < 2.0
    assert isinstance(held.exception(0), Cancelled)
    with pytest.raises(ClosedError):
        bus.request("echo", timeout=BOUND_S)


def test_what_it_says_of_itself(here: HereBroker, bus: Peer) -> None:
    """Its name, and how it stands with its broker."""
    assert (bus.name, bus.is_attached, bus.is_open, bus.error) == ("engine", True, True, None)
    here.kill()
    until(lambda: not bus.is_attached, "the loss is noticed")
    assert bus.is_open
    here.start()
    until(lambda: bus.is_attached, "it is back")
    assert bus.counters().losses == 1
    bus.close(drain=0.0)
    assert (bus.name, bus.is_attached, bus.is_open) == ("engine", False, False)
    assert isinstance(bus.error, ClosedError)


def test_as_many_handlers_run_at_once_as_the_limits_say(here: HereBroker, bus: Peer) -> None:
    """By default as many as a pool has."""
    assert SessionLimits().handlers == HANDLERS
    servant = Servant()
    with connect(
        here.backend,
        role="server",
        dispatcher=servant.dispatcher,
        limits=SessionLimits(handlers=2),
    ):
        futures = [
            bus.submit("hold", number, timeout=BOUND_S, unserved="wait") for number in range(4)
        ]
        until(lambda: len(servant.held) == 2, "two run")
        servant.go_on.set()
        assert [future.result(BOUND_S) for future in futures] == [0, 1, 2, 3]
        assert len(servant.held) == 4


@pytest.mark.parametrize("call", [connect, zbus.aio.connect])
def test_connect_takes_what_a_page_can_explain(call: Callable[..., Any]) -> None:
    """Six arguments; the last stands for limits and keys, and for nothing else."""
    names = ["endpoint", "name", "dispatcher", "role", "timeout", "options"]
    assert list(inspect.signature(call).parameters) == names
