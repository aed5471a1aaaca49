"""Closing a connection: what may finish does, what is left is told, and nothing stays behind."""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from brokers import (
    BOUND_S,
    HereBroker,
    Servant,
    broker,
    ended,
    in_a_thread,
    serving,
    threads,
    until,
)

from zbus.errors import (
    Cancelled,
    ClosedError,
    ForkedClientError,
    InvalidTimeout,
    Superseded,
    ZbusError,
)
from zbus.peer import channel as room
from zbus.peer.channel import Attachment, Channel, Left, attach, value_of
from zbus.peer.dispatcher import Dispatcher

pytestmark = pytest.mark.real

CLOSED_S = 2.0
"""A close that need not wait for anything takes less."""


@pytest.fixture
def here(runtime_dir: Path) -> Iterator[HereBroker]:
    with broker(runtime_dir, heartbeat_s=0.5) as made:
        yield made


@pytest.fixture
def servant(here: HereBroker) -> Iterator[Servant]:
    made = Servant()
    with serving(here, made):
        yield made


@pytest.fixture
def channel(here: HereBroker) -> Iterator[Channel]:
    made = attach(Attachment(endpoint=here.frontend, name="engine"))
    yield made
    made.close(0.0)


def ask(channel: Channel, topic: str = "echo", body: Any = None, timeout: float = BOUND_S) -> Any:
    return value_of(channel.converse(channel.prepare(topic, body, timeout)))


def begin(channel: Channel, topic: str, body: Any = None, timeout: float = BOUND_S) -> list[Any]:
    """Asks without waiting; the list gets the outcome."""
    outcomes: list[Any] = []
    channel.begin(channel.prepare(topic, body, timeout), outcomes.append)
    return outcomes


def test_p18_close_lets_open_work_finish(
    here: HereBroker, servant: Servant, channel: Channel
) -> None:
    """Requests are replied to and pushes settled; nothing is left, and no thread (P24)."""
    outcomes = begin(channel, "hold", 1)
    channel.push("wait", 1)
    until(lambda: servant.held, "the handler runs")
    closer, left = in_a_thread(lambda: channel.close(BOUND_S))
    assert ask(channel, "zbus.ping"), "others may still ask"
    assert closer.is_alive()
    servant.go_on.set()
    ended(closer)
    assert left == [Left(0, 0, 0)]
    assert value_of(outcomes[0]) == 1
    assert channel.counters().delivered == 1


def test_close_says_what_it_left(here: HereBroker, servant: Servant) -> None:
    """Requests asked, handlers that run, pushes that are not settled; each ends as Cancelled."""
    handlers = Servant()
    channel = attach(Attachment(endpoint=here.frontend, name="e", dispatcher=handlers.dispatcher))
    other = attach(Attachment(endpoint=here.frontend, name="other"))
    asked = [begin(channel, "hold", number) for number in range(3)]
    other.begin(other.prepare("hold", None, BOUND_S, to="e"), lambda outcome: None)
    channel.push("wait", 1)
    channel.push("wait", 2)
    until(lambda: len(servant.held) == 3 and handlers.held, "all run")
    began = time.monotonic()
    assert channel.close(0.1) == Left(3, 1, 2)
    assert time.monotonic() - began < CLOSED_S
    assert [type(outcomes[0]) for outcomes in asked] == [Cancelled] * 3
    assert channel.counters().dropped == 2
    assert channel.close(BOUND_S) == Left(3, 1, 2)
    assert channel not in room._channels
    handlers.go_on.set()
    other.close(0.0)


def test_the_last_words_of_handlers_are_heard(here: HereBroker, channel: Channel) -> None:
    """Who had to be left is told so by us, and not by the broker as the loss of a peer."""
    servant = Servant()
    how = Attachment(endpoint=here.backend, dispatcher=servant.dispatcher, role="server")
    server = attach(how)
    server._link.on_finished = lambda: None  # the I/O thread says it when it turns next
    channel.converse(channel.prepare_probe("hold", BOUND_S))
    asked = [begin(channel, "hold") for _ in range(3)]
    until(lambda: len(servant.held) == 3, "all run")
    assert server.close(0.05) == Left(0, 3, 0)
    until(lambda: all(asked), "their ends")
    assert [type(outcomes[0]) for outcomes in asked] == [Cancelled] * 3
    servant.go_on.set()


def test_after_close_every_call_says_so(here: HereBroker, channel: Channel) -> None:
    """But for those that only look."""
    channel.close(0.0)
    with pytest.raises(ClosedError):
        ask(channel)
    with pytest.raises(ClosedError):
        channel.push("not valid", object())
    with pytest.raises(ClosedError):
        channel.prepare_probe("echo", 1.0)
    channel.cancel(1)
    assert channel.counters().open_requests == 0
    assert channel.flush(BOUND_S) == 0
    assert (channel.is_open, channel.is_attached, channel.name) == (False, False, "engine")
    assert isinstance(channel.error, ClosedError)


def test_close_in_many_threads_is_one_close(
    here: HereBroker, servant: Servant, channel: Channel
) -> None:
    """All are told the same, and all come back."""
    begin(channel, "hold")
    until(lambda: servant.held, "the handler runs")
    closers = [in_a_thread(lambda: channel.close(0.2)) for _ in range(8)]
    for thread, _ in closers:
        ended(thread)
    assert [left for _, left in closers] == [[Left(1, 0, 0)]] * 8


def test_close_in_a_callback_of_its_own(
    here: HereBroker, servant: Servant, channel: Channel
) -> None:
    """The callback's thread is nobody's that a close waits for."""
    closed: list[Left] = []
    channel.call_back(lambda drain: closed.append(channel.close(drain)), 0.0)
    until(lambda: closed, "it is closed")
    assert closed == [Left(0, 0, 0)]
    until(lambda: "zbus-callbacks_0" not in threads(), "its thread ends")


def test_close_in_a_handler_of_its_own(here: HereBroker) -> None:
    """It cannot wait for itself, and says that it was left."""
    closed: list[Left] = []
    dispatcher = Dispatcher()
    dispatcher.add("close", lambda body: closed.append(server.close(0.2)))
    server = attach(
        Attachment(endpoint=here.backend, name="s", dispatcher=dispatcher, role="server")
    )
    channel = attach(Attachment(endpoint=here.frontend))
    with pytest.raises(ZbusError):
        ask(channel, "close")
    until(lambda: closed, "it is closed")
    assert closed == [Left(0, 1, 0)]
    channel.close(0.0)


@pytest.mark.parametrize("drain", [0.0, 0.5])
def test_close_with_a_dead_broker_is_bounded(
    here: HereBroker, servant: Servant, channel: Channel, drain: float
) -> None:
    """By the drain: nothing that is open can finish any more."""
    channel.push("wait", 1)
    begin(channel, "hold")
    until(lambda: servant.held, "the handler runs")
    here.kill()
    began = time.monotonic()
    assert channel.close(drain) == Left(1, 0, 1)
    assert drain <= time.monotonic() - began < drain + CLOSED_S


def test_close_after_the_broker_sent_us_away_does_not_drain(
    here: HereBroker, channel: Channel
) -> None:
    """What is lost is lost; the pushes that were dropped are told."""
    channel.push("nobody", 1)
    newer = attach(Attachment(endpoint=here.frontend, name="engine"))
    until(lambda: not channel.is_open, "it is superseded")
    assert isinstance(channel.error, Superseded)
    began = time.monotonic()
    assert channel.flush(BOUND_S) == 1
    assert channel.close(BOUND_S) == Left(0, 0, 1)
    assert time.monotonic() - began < CLOSED_S
    assert newer.is_open
    newer.close(0.0)


@pytest.mark.parametrize("drain", [math.nan, math.inf, "1", None, True])
def test_a_drain_is_a_number_of_seconds(channel: Channel, drain: Any) -> None:
    """What is none closes nothing."""
    with pytest.raises(InvalidTimeout, match="drain"):
        channel.close(drain)
    assert ask(channel, "zbus.ping")
    assert channel.close(-1.0) == Left(0, 0, 0)


def test_a_signals_handler_may_close_what_is_being_closed(
    here: HereBroker, servant: Servant, channel: Channel
) -> None:
    """The second Ctrl-C does not wait for the first."""
    inner: list[Left] = []

    def close(_number: int, _frame: FrameType | None) -> None:
        inner.append(channel.close(0.0))

    begin(channel, "hold")
    until(lambda: servant.held, "the handler runs")
    main = threading.get_ident()
    before = signal.signal(signal.SIGUSR1, close)
    try:

        def disturb() -> None:
            until(lambda: is_being_closed(channel), "it is being closed")
            signal.pthread_kill(main, signal.SIGUSR1)

        thread, _ = in_a_thread(disturb)
        began = time.monotonic()
        assert channel.close(BOUND_S) == Left(0, 0, 0)
        ended(thread)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert inner == [Left(1, 0, 0)]
    assert time.monotonic() - began < CLOSED_S


def is_being_closed(channel: Channel) -> bool:
    free = channel._closing.acquire(blocking=False)
    if free:
        channel._closing.release()
    return not free


def test_nobody_refers_to_it_and_it_is_closed_at_the_end_all_the_same(
    here: HereBroker, servant: Servant
) -> None:
    """What was accepted is handed over, and no thread stays."""
    attach(Attachment(endpoint=here.frontend, name="dropped")).push("note", 1)
    gc.collect()
    assert [each.name for each in room._channels if each.name == "dropped"] == ["dropped"]
    others = [each for each in room._channels if each.name != "dropped"]
    room._channels.difference_update(others)
    try:
        room._close_all()
    finally:
        room._channels.update(others)
    assert servant.taken == [1]
    assert here.events("peer_lost") == 1


def test_p21_in_a_forked_child_every_call_says_so(here: HereBroker, channel: Channel) -> None:
    """Also those that would wait; and close returns at once."""
    child = os.fork()
    if child == 0:
        os._exit(forked_calls(channel))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert ask(channel, "zbus.ping")


def forked_calls(channel: Channel) -> int:
    """0 if each call says that this is a child; the number of the first that does not."""
    signal.alarm(10)
    calls: list[Callable[[], object]] = [
        lambda: ask(channel),
        lambda: begin(channel, "echo"),
        lambda: channel.push("note", 1),
        lambda: channel.flush(5.0),
        lambda: channel.prepare_probe("echo", 5.0),
    ]
    for number, call in enumerate(calls, 1):
        try:
            call()
        except ForkedClientError:
            continue
        except BaseException:  # noqa: BLE001 - the child must not become a second test run
            return number
        return number
    channel.cancel(1)
    channel.counters()
    channel.close(5.0)
    room._close_all()
    return 0
