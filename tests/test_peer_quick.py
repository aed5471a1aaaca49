"""Quick handlers run in the thread on duty; a slow one is relieved, and keeps nobody waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from brokers import BOUND_S, HereBroker, broker, ended, in_a_thread, leaving_nothing, until
from seats import Acted

from zbus.errors import RequestError, RequestTimeout
from zbus.peer.body import encode_body
from zbus.peer.call import Call
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.pace import RUNS
from zbus.peer.peer import Peer, connect
from zbus.peer.pool import HANDLERS, HandlerPool
from zbus.peer.quick import WATCH_S, Quick
from zbus.protocol.message import NO_FRAMES

ON_DUTY = {"zbus-io", "zbus-relief"}


def a_call(results: list[object]) -> Call:
    return Call("quick", "engine", encode_body(None)[0], NO_FRAMES, None, "", results.append)


class Desk:
    """A pool with one handler, which does what a test says; and who runs it."""

    def __init__(self, size: int = HANDLERS) -> None:
        self.act: Callable[[], object] = lambda: None
        self.ran_in: list[str] = []
        dispatcher = Dispatcher()
        dispatcher.on("quick")(self._handle)
        self.pool = HandlerPool(dispatcher, size=size)
        self.quick = Quick(self.pool)
        self.relieved = threading.Event()
        self.relief = threading.Thread(target=self._relieve, daemon=True)

    def _handle(self, body: Any) -> None:
        self.ran_in.append(threading.current_thread().name)
        self.act()

    def _relieve(self) -> None:
        if self.quick.stand_by():
            self.relieved.set()
            self.quick.hand_over()

    def prove(self) -> None:
        """Make the handler known to be quick, and have the relief stand by."""
        results: list[object] = []
        for _ in range(4 * RUNS):
            self.pool.run_here(a_call(results))
        assert self.pool.is_quick("quick")
        self.relief.start()
        until(lambda: self.quick._covered, "the relief stands by")
        self.ran_in.clear()

    def on_duty(self) -> bool:
        return not self.relieved.is_set()


@pytest.fixture
def desk(request: pytest.FixtureRequest) -> Iterator[Desk]:
    desk = Desk(getattr(request, "param", HANDLERS))
    yield desk
    desk.quick.end()
    desk.pool.close(0.0)


ONE_AT_ONCE = pytest.mark.parametrize("desk", [1], indirect=True)


def test_nothing_runs_here_without_a_relief(desk: Desk) -> None:
    """The thread on duty must be able to be relieved."""
    results: list[object] = []
    desk.quick.begin(a_call(results))
    assert not desk.quick.waits
    until(lambda: results, "the pool has run it")
    assert desk.ran_in[0].startswith("zbus-handler")


def test_a_quick_handler_runs_in_this_thread(desk: Desk) -> None:
    """When the link has been turned, not before."""
    desk.prove()
    results: list[object] = []
    for _ in range(3):
        desk.quick.begin(a_call(results))
    assert results == []
    while desk.quick.waits:
        desk.quick.run(desk.on_duty)
    assert len(results) == 3
    assert desk.ran_in == [threading.current_thread().name] * 3


@ONE_AT_ONCE
def test_a_slow_one_takes_the_place_of_a_worker(desk: Desk) -> None:
    """With one handler at once, what waited begins when the slow one has returned."""
    desk.prove()
    go_on, results = threading.Event(), list[object]()
    desk.act = lambda: go_on.wait(BOUND_S) if len(desk.ran_in) == before + 1 else None
    before = len(desk.ran_in)
    for _ in range(3):
        desk.quick.begin(a_call(results))
    turner, _ = in_a_thread(lambda: desk.quick.run(lambda: not desk.relieved.is_set()))
    until(desk.relieved.is_set, "the relief takes over")
    until(lambda: not desk.quick.waits, "what waited is the pool's")
    assert len(desk.ran_in) == before + 1
    go_on.set()
    until(lambda: len(results) == 3, "all have run")
    turner.join(BOUND_S)


@ONE_AT_ONCE
def test_a_slow_one_is_written_off_and_the_pool_is_whole(desk: Desk) -> None:
    """After its deadline another begins, although it has not returned."""
    desk.prove()
    go_on, results = threading.Event(), list[object]()
    before = len(desk.ran_in)
    desk.act = lambda: go_on.wait(BOUND_S) if len(desk.ran_in) == before + 1 else None
    for _ in range(2):
        desk.quick.begin(replace(a_call(results), deadline=time.monotonic() + 0.1))
    turner, _ = in_a_thread(lambda: desk.quick.run(lambda: not desk.relieved.is_set()))
    until(lambda: len(results) == 1, "the other has ended")
    assert not go_on.is_set()
    go_on.set()
    until(lambda: len(results) == 2, "and the slow one")
    turner.join(BOUND_S)


def test_no_more_run_here_than_the_pool_has_room_for(desk: Desk) -> None:
    """Where as many calls are open as may run at once, a quick one goes to the pool as well."""
    desk.prove()
    go_on, results = threading.Event(), list[object]()
    desk.act = lambda: go_on.wait(BOUND_S)
    for _ in range(desk.pool.size):
        desk.pool.submit(a_call(results))
    desk.quick.begin(a_call(results))
    assert not desk.quick.waits
    go_on.set()
    until(lambda: len(results) == desk.pool.size + 1, "all have run")


def test_one_that_is_slow_after_all_is_relieved(desk: Desk) -> None:
    """What waited behind it goes to the pool, and it is not quick any more."""
    desk.prove()
    results: list[object] = []
    desk.act = lambda: desk.relieved.wait(BOUND_S) if len(desk.ran_in) == 1 else None
    for _ in range(3):
        desk.quick.begin(a_call(results))
    desk.quick.run(desk.on_duty)
    assert desk.relieved.is_set()
    until(lambda: len(results) == 3, "all have run")
    here = threading.current_thread().name
    assert desk.ran_in[0] == here
    assert all(name.startswith("zbus-handler") for name in desk.ran_in[1:])
    assert not desk.pool.is_quick("quick")


def test_a_stream_of_quick_ones_is_not_relieved(desk: Desk) -> None:
    """The watch is over one handler, not over all of them together."""
    desk.prove()
    results: list[object] = []
    pause = threading.Event()
    desk.act = lambda: pause.wait(WATCH_S / 10)
    for _ in range(60):
        desk.quick.begin(a_call(results))
        desk.pool._pace.note("quick", 0.0)
    while desk.quick.waits:
        desk.quick.run(lambda: True)
    assert len(results) == 60
    assert not desk.relieved.is_set()


def test_a_relief_that_dozes_ends_when_it_is_told(desk: Desk) -> None:
    """It sleeps without a timeout, so it must be rung."""
    desk.prove()
    until(lambda: desk.quick._dozes, "it dozes")
    desk.quick.end()
    ended(desk.relief)
    assert not desk.relieved.is_set()


@pytest.mark.pure
def test_who_comes_back_just_when_it_is_relieved_takes_nobodys_bell(desk: Desk) -> None:
    """It was asleep by then, and whoever is brought back afterwards is the one on duty."""
    quick = Quick(desk.pool)
    acted = Acted(quick)
    driver = acted.driver
    driver.start()
    acted.alone()
    quick._running = True  # the relief has seen a handler that is slow, and it ends just now
    quick._ring()
    until(lambda: driver._on_duty is driver._relief, "the relief takes over")
    slot = acted.leading()
    driver.call(lambda link, now: None, turn=True)
    until(lambda: "zbus-relief" in acted.sleepers(), "the relief is brought back")
    acted.reply()
    assert slot.outcome is not None
    driver.stop()


# -- over a real broker ------------------------------------------------------------------------


@pytest.fixture
def here(runtime_dir: Path) -> Iterator[HereBroker]:
    with broker(runtime_dir) as here:
        yield here


@pytest.fixture
def engine(here: HereBroker) -> Iterator[Peer]:
    with connect(here.frontend) as peer:
        peer.push("nobody", None)
        until(lambda: here.see(lambda daemon: len(daemon.broker.conveyor.lanes)), "all its sockets")
        yield peer
        peer.close(drain=0.0)  # nobody takes the push


def server(here: HereBroker, dispatcher: Dispatcher) -> Peer:
    return connect(here.backend, "server", dispatcher=dispatcher, role="server")


@pytest.mark.real
def test_a_quick_handler_is_soon_run_by_the_thread_on_duty(here: HereBroker, engine: Peer) -> None:
    """And nothing is left when the server closes (P24)."""
    dispatcher = Dispatcher()
    dispatcher.on("who")(lambda body: threading.current_thread().name)
    with leaving_nothing(), server(here, dispatcher):
        first = engine.request("who", timeout=BOUND_S)
        assert first.startswith("zbus-handler")
        until(lambda: engine.request("who", timeout=BOUND_S) in ON_DUTY, "it is run on duty")


@pytest.mark.real
def test_p11_a_quick_handler_that_hangs_keeps_nobody_waiting(
    here: HereBroker, engine: Peer
) -> None:
    """Its request ends at its timeout; others are answered, and the server stays attached."""
    go_on = threading.Event()
    dispatcher = Dispatcher()
    dispatcher.on("other")(lambda body: body)

    @dispatcher.on("turns")
    def turns(body: Any) -> str:
        if body == "hang":
            go_on.wait(BOUND_S)
        return threading.current_thread().name

    with leaving_nothing(), server(here, dispatcher) as peer:
        until(lambda: engine.request("turns", timeout=BOUND_S) in ON_DUTY, "it is run on duty")
        hung, outcomes = in_a_thread(lambda: engine.request("turns", "hang", timeout=0.5))
        for number in range(200):
            assert engine.request("other", number, timeout=BOUND_S) == number
        ended(hung)
        assert isinstance(outcomes[0], RequestTimeout)
        assert peer.is_attached
        assert here.events("peer_lost") == 0
        go_on.set()
        until(lambda: engine.request("other", timeout=BOUND_S) is None, "it goes on")


@pytest.mark.real
def test_a_quick_handler_may_ask_its_own_peer(here: HereBroker, engine: Peer) -> None:
    """Which needs somebody else to turn the link meanwhile."""
    dispatcher = Dispatcher()
    holder: list[Peer] = []

    @dispatcher.on("outer")
    def ask(body: Any) -> Any:
        if body:
            holder[0].request("zbus.ping", timeout=BOUND_S)
        return threading.current_thread().name

    with leaving_nothing(), server(here, dispatcher) as peer:
        holder.append(peer)
        until(lambda: engine.request("outer", timeout=BOUND_S) in ON_DUTY, "it is run on duty")
        assert engine.request("outer", True, timeout=BOUND_S) in ON_DUTY
        holder.clear()


@pytest.mark.real
def test_p18_who_closes_does_not_wait_for_a_quick_handler_that_hangs(
    here: HereBroker, engine: Peer
) -> None:
    """Also where it began just now, and has not been relieved yet."""
    began, go_on = threading.Event(), threading.Event()
    dispatcher = Dispatcher()

    @dispatcher.on("turns")
    def turns(body: Any) -> str:
        if body == "hang":
            began.set()
            go_on.wait(BOUND_S)
        return threading.current_thread().name

    peer = server(here, dispatcher)
    until(lambda: engine.request("turns", timeout=BOUND_S) in ON_DUTY, "it is run on duty")
    future = engine.submit("turns", "hang", timeout=0.5)
    assert began.wait(BOUND_S)
    asked = time.monotonic()
    assert peer.close(drain=0.0).handlers == 1
    assert time.monotonic() - asked < BOUND_S / 2
    go_on.set()
    assert isinstance(future.exception(BOUND_S), RequestError)


def test_who_has_asked_is_reached_at_once(here: HereBroker) -> None:
    """A caller that leads has left its socket to nobody: the I/O thread listens again within a
    lull, and not at its next heartbeat."""
    asked, served = Dispatcher(), Dispatcher()
    asked.add("echo", lambda body: body)
    served.add("ping", lambda body: body)
    waited_s: list[float] = []
    with (
        connect(here.backend, role="server", dispatcher=asked) as server,
        connect(here.frontend, name="engine", dispatcher=served) as engine,
    ):
        engine.wait_served("echo", timeout=BOUND_S)
        for _ in range(5):
            for _ in range(20):
                engine.request("echo", timeout=BOUND_S)
            began = time.monotonic()
            server.request("ping", to="engine", timeout=BOUND_S)
            waited_s.append(time.monotonic() - began)
    assert min(waited_s) < 0.1


def test_p21_a_leader_may_be_called_off_at_any_moment(here: HereBroker) -> None:
    """Another thread asks all the while, and calls off who leads each time."""
    asked = Dispatcher()
    asked.add("echo", lambda body: body)
    with (
        connect(here.backend, role="server", dispatcher=asked),
        connect(here.frontend) as engine,
    ):
        engine.wait_served("echo", timeout=BOUND_S)
        over = threading.Event()

        def ask() -> None:
            while not over.wait(0.003):
                engine.submit("echo", timeout=BOUND_S).result()

        other, _ = in_a_thread(ask)
        try:
            replies = [engine.request("echo", number, timeout=BOUND_S) for number in range(1_500)]
        finally:
            over.set()
            ended(other)
        assert replies == list(range(1_500))
