"""``serve`` stays until it is told to go, and then lets open work finish (P18)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pytest
from terminals import Terminals, bus, until

from zbus.errors import BrokerUnreachable, ConfigError, NoHandler, RequestError, Superseded
from zbus.peer.channel import Attachment, Left
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.peer import Peer, connect
from zbus.peer.serving import Stop, serve, stay

pytestmark = pytest.mark.real

SERVER = """
import sys, time
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.serving import serve
dispatcher = Dispatcher()

@dispatcher.on("slow")
def slow(body):
    print("began", flush=True)
    time.sleep(body)
    return "finished"

left = serve(dispatcher, name="slow-server", drain=float(sys.argv[1]))
print(tuple(left), flush=True)
"""


@pytest.fixture(scope="module")
def here() -> Iterator[Terminals]:
    with bus() as terminals:
        yield terminals


@pytest.fixture
def engine(here: Terminals) -> Iterator[Peer]:
    with connect(f"ipc://{here.place}/frontend") as peer:
        yield peer


def backend(here: Terminals) -> str:
    return f"ipc://{here.place}/backend"


def a_server(here: Terminals, name: str) -> Attachment:
    return Attachment(endpoint=backend(here), name=name, dispatcher=echoing(), role="server")


def echoing() -> Dispatcher:
    dispatcher = Dispatcher()
    dispatcher.add("echo", lambda body: body)
    return dispatcher


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_p18_a_signal_drains(here: Terminals, engine: Peer, number: int) -> None:
    """An open request is replied to, nothing is left, and nothing new begins."""
    with here.python(SERVER, "20") as process, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(engine.request, "slow", 1.0, timeout=20, unserved="wait")
        assert process.line() == "began"
        process.signal(number)
        assert asked.result(20) == "finished"
        assert process.line() == "(0, 0, 0)"
        assert process.end() == 0


def test_p18_what_does_not_finish_in_time_is_counted(here: Terminals, engine: Peer) -> None:
    """The drain has its end, and says what was left."""
    with here.python(SERVER, "0.2") as process:
        future = engine.submit("slow", 60.0, timeout=60, unserved="wait")
        assert process.line() == "began"
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.line() == "(0, 1, 0)"
        assert time.monotonic() - began < 5
        future.cancel()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_p18_a_second_signal_ends_it_at_once(here: Terminals, engine: Peer, number: int) -> None:
    """It does what it does to a program without handlers."""
    with here.python(SERVER, "60") as process:
        future = engine.submit("slow", 60.0, timeout=60, unserved="wait")
        assert process.line() == "began"
        process.signal(number)
        until(lambda: not engine.request("zbus.topics", timeout=5).get("slow"), "it drains")
        began = time.monotonic()
        process.signal(number)
        process.end()
        assert time.monotonic() - began < 10
        future.cancel()


def test_a_stop_ends_it_from_another_thread(here: Terminals, engine: Peer) -> None:
    """Where no signal comes: the peer is closed, and what was left is said."""
    stop = Stop()
    peers: SimpleQueue[Peer] = SimpleQueue()
    with ThreadPoolExecutor(1) as pool:
        staying = pool.submit(stay, a_server(here, "threaded"), peers.put, stop)
        peer = peers.get(timeout=10)
        assert engine.request("echo", "hi", timeout=5) == "hi"
        stop.give()
        stop.give()
        assert staying.result(10) == Left(0, 0, 0)
    assert stop.given
    assert not peer.is_open


def test_it_ends_when_another_thread_closes_the_peer(here: Terminals) -> None:
    """A closed peer serves nobody, so there is nothing to stay for; and it is no error."""
    peers: SimpleQueue[Peer] = SimpleQueue()
    with ThreadPoolExecutor(1) as pool:
        staying = pool.submit(stay, a_server(here, "closing"), peers.put)
        peers.get(timeout=10).close()
        assert staying.result(10) == Left(0, 0, 0)


def test_it_raises_what_the_broker_sent_it_away_with(here: Terminals) -> None:
    """A newer start of the same name takes over, and the older one says so."""
    peers: SimpleQueue[Peer] = SimpleQueue()
    with ThreadPoolExecutor(1) as pool:
        staying = pool.submit(stay, a_server(here, "twice"), peers.put)
        peers.get(timeout=10)
        with connect(backend(here), "twice", dispatcher=echoing(), role="server"):
            assert isinstance(staying.exception(10), Superseded)


def test_in_the_main_thread_signal_handlers_are_lent_and_given_back(here: Terminals) -> None:
    """Whoever had set them has them again; an ignored signal stays ignored meanwhile."""
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        mine = signal.getsignal(signal.SIGTERM)
        during: list[object] = []

        def interrupt() -> None:
            until(lambda: signal.getsignal(signal.SIGTERM) is not mine, "handlers are set")
            during.extend(map(signal.getsignal, (signal.SIGTERM, signal.SIGINT)))
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=interrupt).start()
        assert stay(a_server(here, "signalled")) == Left(0, 0, 0)
        assert during[0] is not mine
        assert during[1] is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is mine
        assert seen == []
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, ignored)


def test_a_broker_that_is_not_there_is_told(tmp_path: Path) -> None:
    """``serve`` tries as long as it is told, and raises."""
    began = time.monotonic()
    with pytest.raises(BrokerUnreachable):
        serve(echoing(), f"ipc://{tmp_path}/none", timeout=0.2)
    assert time.monotonic() - began < 10


def test_an_address_that_is_none_leaves_nothing() -> None:
    """It is told at once, and no thread, descriptor or complaint at the end is left (P24)."""
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(2):
        with pytest.raises(ConfigError, match="cannot use nowhere"):
            serve(echoing(), "nowhere")
        assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_a_stop_while_no_broker_answers_ends_it(tmp_path: Path) -> None:
    """Long before the time to connect is over; and there is nothing to be left."""
    stop = Stop()
    how = Attachment(endpoint=f"ipc://{tmp_path}/none", dispatcher=echoing(), timeout=8.0)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        staying = pool.submit(stay, how, None, stop)
        stop.give()
        assert staying.result(10) == Left(0, 0, 0)
    assert time.monotonic() - began < 5


def test_a_stop_that_was_given_needs_no_waiting() -> None:
    """Also one that was given before anybody waited."""
    stop = Stop()
    assert stop.wait(0.001) is False
    stop.give()
    began = time.monotonic()
    assert stop.wait(60)
    assert stop.wait(60)
    assert time.monotonic() - began < 30


def test_p18_a_drain_loses_nothing_that_is_on_its_way(here: Terminals, engine: Peer) -> None:
    """Of requests that keep coming, each is replied to or was certainly not run."""
    outcomes: list[BaseException | None] = []

    def ask_on() -> None:
        while not isinstance(outcomes[-1] if outcomes else None, RequestError):
            asked = [engine.submit("slow", 0.0, timeout=10) for _ in range(50)]
            outcomes.extend(future.exception(20) for future in asked)

    script = SERVER.replace('print("began", flush=True)', "pass")
    for _ in range(5):
        outcomes.clear()
        with here.python(script, "10") as process:
            engine.wait_served("slow", timeout=10)
            asking = threading.Thread(target=ask_on)
            asking.start()
            until(lambda: len(outcomes) > 200, "requests are replied to")
            process.signal(signal.SIGTERM)
            assert process.end() == 0
            asking.join(30)
        errors = [error for error in outcomes if error is not None]
        assert errors
        assert {type(error) for error in errors} == {NoHandler}
