"""One connection without a face, over real sockets: zbus/peer/channel.py."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
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
    leaving_nothing,
    serving,
    threads,
    until,
)

from zbus.broker.sections import LimitsSection
from zbus.errors import (
    Backpressure,
    BrokerUnreachable,
    ClosedError,
    ConfigError,
    InvalidName,
    InvalidTimeout,
    NameTaken,
    Overloaded,
    RequestTimeout,
    Superseded,
    TooLarge,
    UnencodableBody,
    ZbusError,
)
from zbus.peer.channel import Attachment, Channel, attach, value_of
from zbus.peer.dispatcher import Dispatcher, Incoming
from zbus.peer.driver import Driver
from zbus.protocol.session import SessionLimits, State

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


# -- attaching ------------------------------------------------------------------------------


def test_without_a_broker_it_is_said_in_time_and_nothing_is_left(runtime_dir: Path) -> None:
    """BrokerUnreachable after the timeout; no thread, no descriptor (P24)."""
    how = Attachment(endpoint=f"ipc://{runtime_dir}/nobody", dispatcher=Servant().dispatcher)
    for timeout in (0.05, 0.3):
        began = time.monotonic()
        with leaving_nothing(), pytest.raises(BrokerUnreachable, match="nobody"):
            attach(replace(how, timeout=timeout))
        assert timeout <= time.monotonic() - began < timeout + 2.0


def test_a_broker_that_comes_in_time_is_found(runtime_dir: Path) -> None:
    """Whoever connects before there is a broker waits for it."""
    here = HereBroker(runtime_dir)
    thread, made = in_a_thread(lambda: attach(Attachment(endpoint=here.frontend, timeout=BOUND_S)))
    until(lambda: "zbus-io" in threads(), "it tries")
    here.start()
    ended(thread)
    assert made[0].is_attached
    made[0].close(0.0)
    here.stop()


def test_a_broker_that_refuses_is_quoted_at_once(
    here: HereBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that another can prove to have, an older life, a full broker; nothing is left."""
    monkeypatch.setenv("ZBUS_TOKEN", "secret")
    owner = attach(Attachment(endpoint=here.frontend, name="engine"))
    owner.push("nobody", 1)
    until(lambda: here.see(lambda daemon: len(daemon.broker.conveyor.lanes)), "all its sockets")
    monkeypatch.delenv("ZBUS_TOKEN")
    with leaving_nothing(), pytest.raises(NameTaken):
        attach(Attachment(endpoint=here.frontend, name="engine", timeout=BOUND_S))
    monkeypatch.setenv("ZBUS_TOKEN", "secret")
    monkeypatch.setenv("ZBUS_EPOCH", "1")
    with leaving_nothing(), pytest.raises(Superseded):
        attach(Attachment(endpoint=here.frontend, name="engine", timeout=BOUND_S))
    assert owner.is_open
    owner.close(0.0)


def test_who_is_taken_in_and_sent_away_at_once_is_told(
    here: HereBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not attached when ``attach`` could return."""
    start = Driver.start

    def start_and_end(driver: Driver) -> None:
        start(driver)
        until(lambda: driver._link.session.state is State.OPEN, "it is taken in")
        driver.call(lambda link, now: link.fail(Superseded(), now))

    monkeypatch.setattr(Driver, "start", start_and_end)
    with pytest.raises(Superseded):
        attach(Attachment(endpoint=here.frontend))


def test_a_full_broker_is_tried_until_the_time_is_up(runtime_dir: Path) -> None:
    """And then it is what is told."""
    with broker(runtime_dir, limits=LimitsSection(peers=1)) as here:
        first = attach(Attachment(endpoint=here.frontend))
        began = time.monotonic()
        with pytest.raises(Overloaded):
            attach(Attachment(endpoint=here.frontend, timeout=0.3))
        assert time.monotonic() - began >= 0.3
        first.close(0.0)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"timeout": math.nan}, InvalidTimeout),
        ({"timeout": "1"}, InvalidTimeout),
        ({"timeout": -1}, InvalidTimeout),
        ({"role": "servr"}, InvalidName),
        ({"name": "two words"}, InvalidName),
        ({"endpoint": "nonsense"}, ConfigError),
        ({"endpoint": "ipc://" + "x" * 200}, ConfigError),
        ({"limits": SessionLimits(handlers=0)}, ConfigError),
    ],
)
def test_a_wrong_argument_is_refused_and_nothing_is_left(
    here: HereBroker, wrong: dict[str, Any], error: type[ZbusError]
) -> None:
    """Before or after there is a socket."""
    with leaving_nothing(), pytest.raises(error):
        attach(Attachment(**{"endpoint": here.frontend, **wrong}))


def test_a_child_that_was_given_an_epoch_may_connect_twice(
    here: HereBroker, servant: Servant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second life gets its own replies, and not those that are remembered of the first."""
    monkeypatch.setenv("ZBUS_EPOCH", "5")
    for number in range(3):
        channel = attach(Attachment(endpoint=here.frontend, name="engine"))
        assert ask(channel, "echo", number) == number
        channel.close(0.0)


# -- what is refused before it is sent ------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"to": None}, InvalidName),
        ({"to": "two words"}, InvalidName),
        ({"to": 7}, InvalidName),
        ({"topic": ""}, InvalidName),
        ({"topic": None}, InvalidName),
        ({"topic": "a*"}, InvalidName),
        ({"options": {"trace": "x" * 65}}, InvalidName),
        ({"options": {"trace": None}}, InvalidName),
        ({"options": {"trace": "\ud800"}}, InvalidName),
        ({"unserved": "Wait"}, InvalidName),
        ({"timeout": 0}, InvalidTimeout),
        ({"timeout": None}, InvalidTimeout),
        ({"body": object()}, UnencodableBody),
        ({"body": "\ud800"}, UnencodableBody),
    ],
)
def test_what_the_broker_would_not_understand_is_not_sent(
    here: HereBroker, channel: Channel, wrong: dict[str, Any], error: type[ZbusError]
) -> None:
    """Else one caller's mistake would cost all others their connection."""
    given = {"topic": "zbus.ping", "body": None, "timeout": BOUND_S} | wrong
    with pytest.raises(error):
        channel.converse(channel.prepare(**given))
    assert ask(channel, "zbus.ping")
    assert here.events("peer_lost") == 0


@pytest.mark.parametrize("timeout", [1e300, 1e308, 10**400, 5e-324])
def test_any_finite_timeout_can_be_asked_for(
    here: HereBroker, servant: Servant, channel: Channel, timeout: float
) -> None:
    """The longest are replied to; the shortest ends without being sent."""
    outcome = channel.converse(channel.prepare("echo", 1, timeout))
    if timeout > 1:
        assert value_of(outcome) == 1
    else:
        assert isinstance(outcome, ZbusError)
    assert channel.counters().open_requests == 0


def test_too_large_is_said_here(here: HereBroker, servant: Servant, channel: Channel) -> None:
    """By what the Welcome allowed; nothing is sent, and nothing else is disturbed. A request
    may be as large, for it travels in chunks."""
    large = b"x" * (here.settings.bounds.body_max_bytes + 1)
    assert ask(channel, "echo", large) == large
    with pytest.raises(TooLarge):
        channel.push("note", large)
    assert ask(channel, "echo", 1) == 1
    assert channel.counters().accepted == 0


# -- callbacks ------------------------------------------------------------------------------


def test_a_callback_runs_in_order_in_a_thread_of_its_own(channel: Channel) -> None:
    """One that raises is logged, and the next one runs."""
    ran: list[tuple[int, str]] = []

    def note(number: int) -> None:
        ran.append((number, threading.current_thread().name))

    for number in range(50):
        channel.call_back(note, number)
    until(lambda: len(ran) == 50, "all ran")
    assert ran == [(number, "zbus-callbacks_0") for number in range(50)]


def test_a_callback_that_raises_is_logged(
    channel: Channel, caplog: pytest.LogCaptureFixture
) -> None:
    """As the standard library's futures do, and the others run all the same."""
    ran: list[int] = []

    def stumble(_number: int) -> None:
        raise ValueError("a caller's bug")

    channel.call_back(stumble, 1)
    channel.call_back(ran.append, 2)
    until(lambda: ran, "the next one")
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [ValueError]
    assert caplog.records[0].levelno == logging.ERROR


def test_p11_a_callback_that_blocks_keeps_no_heartbeat_waiting(
    runtime_dir: Path, go_on: threading.Event
) -> None:
    """For ten heartbeats; nor any other caller."""
    with broker(runtime_dir, heartbeat_s=0.1) as here:
        channel = attach(Attachment(endpoint=here.frontend))
        channel.call_back(lambda _nothing: go_on.wait(BOUND_S), None)
        until_s = time.monotonic() + 1.0
        while time.monotonic() < until_s:
            assert ask(channel, "zbus.ping")
            go_on.wait(0.3)
        assert here.events("peer_lost") == 0
        assert channel.counters().losses == 0
        channel.close(0.0)


@pytest.fixture
def go_on() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_callback_that_comes_after_close_runs_at_once(channel: Channel) -> None:
    """In its caller's thread: nobody would run it later."""
    channel.call_back(lambda _nothing: None, None)
    channel.close(0.0)
    ran: list[str] = []
    channel.call_back(lambda _nothing: ran.append(threading.current_thread().name), None)
    assert ran == [threading.current_thread().name]


# -- counting and flushing ------------------------------------------------------------------


def test_p07_the_counters_add_up_at_every_instant(
    here: HereBroker, servant: Servant, channel: Channel
) -> None:
    """Under load from four threads, across a restart of the broker, and while it is closed."""
    stopping = threading.Event()
    accepted = [0] * 4
    wrong: list[Any] = []

    def push(thread: int) -> None:
        while not stopping.is_set():
            try:
                channel.push("note", thread)
                accepted[thread] += 1
            except (Backpressure, ClosedError):
                stopping.wait(0.001)

    def look() -> None:
        while not stopping.is_set():
            counted = channel.counters()
            if counted.accepted != counted.delivered + counted.dropped + counted.queued:
                wrong.append(counted)

    workers = [in_a_thread(partial(push, thread))[0] for thread in range(4)]
    workers.append(in_a_thread(look)[0])
    until(lambda: len(servant.taken) > 500, "some load")
    here.kill()
    here.start()
    before = len(servant.taken)
    until(lambda: len(servant.taken) > before + 500, "load after the restart")
    channel.close(0.1)
    stopping.set()
    for worker in workers:
        ended(worker)
    counted = channel.counters()
    assert wrong == []
    assert counted.accepted == sum(accepted)
    assert counted.accepted == counted.delivered + counted.dropped
    assert counted.queued == 0


def test_flush_waits_for_the_last_push_and_no_longer(
    here: HereBroker, servant: Servant, channel: Channel
) -> None:
    """It says how many are not settled when its time is up, and is woken by the last."""
    assert channel.flush(BOUND_S) == 0
    for number in range(3):
        channel.push("wait", number)
    began = time.monotonic()
    assert channel.flush(0.1) == 3
    assert 0.1 <= time.monotonic() - began < CLOSED_S
    assert channel._link._settlements == {}, "nobody waits any more"
    waiting = [in_a_thread(lambda: channel.flush(BOUND_S)) for _ in range(3)]
    servant.go_on.set()
    for thread, left in waiting:
        ended(thread)
        assert left == [0]


def test_flush_ends_with_the_channel(here: HereBroker, channel: Channel) -> None:
    """What is dropped is not settled, and nobody waits for it."""
    channel.push("nobody", 1)
    thread, left = in_a_thread(lambda: channel.flush(BOUND_S))
    until(lambda: channel._link._settlements, "it waits")
    channel.close(0.0)
    ended(thread)
    assert left == [1]


def test_a_signal_that_raises_ends_a_followers_wait(here: HereBroker, servant: Servant) -> None:
    """In a peer with handlers: its request is cancelled, and its handler told."""
    channel = attach(Attachment(endpoint=here.frontend, name="e", dispatcher=Servant().dispatcher))
    main = threading.get_ident()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:

        def disturb() -> None:
            until(lambda: servant.held, "the handler runs")
            signal.pthread_kill(main, signal.SIGUSR1)

        thread, _ = in_a_thread(disturb)
        with pytest.raises(KeyboardInterrupt):
            ask(channel, "hold")
        ended(thread)
    finally:
        signal.signal(signal.SIGUSR1, before)
    until(lambda: servant.is_told(), "the handler is told")
    assert channel.counters().open_requests == 0
    assert ask(channel, "echo", 1) == 1
    channel.close(0.0)


def test_p02_a_request_may_time_out_before_a_broker_is_back(
    here: HereBroker, servant: Servant, channel: Channel
) -> None:
    """While it is away: requests end at their deadline, never sent ones as BrokerUnreachable."""
    assert ask(channel, "echo", 1) == 1
    outcomes = begin(channel, "hold", None, 0.3)
    until(lambda: servant.held, "the handler runs")
    here.kill()
    until(lambda: outcomes, "its deadline")
    assert isinstance(outcomes[0], RequestTimeout)
    until(lambda: not channel.is_attached, "the loss is noticed")
    with pytest.raises(BrokerUnreachable):
        ask(channel, "echo", 2, 0.2)


def test_handlers_of_an_engine_are_reached_by_name(here: HereBroker, channel: Channel) -> None:
    """And know who asks, and for how long."""
    seen: list[Incoming] = []
    dispatcher = Dispatcher()
    dispatcher.add("see", lambda body, request: seen.append(request))
    other = attach(Attachment(endpoint=here.frontend, name="other", dispatcher=dispatcher))
    asked = channel.prepare("see", None, 5.0, "other", "raise", {"trace": "00-abc-def-01"})
    assert value_of(channel.converse(asked)) is None
    assert (seen[0].source, seen[0].topic, seen[0].trace) == ("engine", "see", "00-abc-def-01")
    assert 0.0 < seen[0].remaining() <= 5.0
    other.close(0.0)
