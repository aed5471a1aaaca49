"""The asyncio face, over real sockets: zbus/peer/aio.py."""

from __future__ import annotations

import asyncio
import gc
import inspect
import math
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

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
    until,
)

import zbus
from zbus.errors import (
    BrokerUnreachable,
    Cancelled,
    ClosedError,
    HandlerError,
    InvalidName,
    InvalidTimeout,
    Malformed,
    NoHandler,
    NoTarget,
    RequestTimeout,
    UnencodableBody,
)
from zbus.peer import peer
from zbus.peer.aio import Peer, connect
from zbus.peer.body import encode_body

pytestmark = pytest.mark.real
T = TypeVar("T")


@pytest.fixture
def here(runtime_dir: Path) -> Iterator[HereBroker]:
    with broker(runtime_dir, heartbeat_s=0.2) as made:
        yield made


@pytest.fixture
def servant(here: HereBroker) -> Iterator[Servant]:
    made = Servant()
    made.dispatcher.add("raise", _raise)
    with serving(here, made):
        yield made


def _raise(body: Any) -> None:
    raise ValueError(body)


def in_a_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it, and fail if anything was left for asyncio to complain about."""
    complaints: list[dict[str, Any]] = []

    async def main() -> T:
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, complaint: complaints.append(complaint)
        )
        result = await work()
        gc.collect()
        return result

    result = asyncio.run(main(), debug=False)
    gc.collect()
    assert complaints == []
    return result


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until it holds, while the loop runs."""
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


# -- the same names -----------------------------------------------------------------------------


def public(kind: type) -> dict[str, Any]:
    return {name: member for name, member in vars(kind).items() if not name.startswith("_")}


def test_it_has_the_blocking_faces_names_and_arguments() -> None:
    """Every method with the same parameters; properties stay properties."""
    blocking, awaited = public(peer.Peer), public(Peer)
    assert blocking.keys() == awaited.keys()
    for name, member in blocking.items():
        if isinstance(member, property):
            assert isinstance(awaited[name], property)
            continue
        ours = inspect.signature(awaited[name])
        assert ours.parameters == inspect.signature(member).parameters
        assert inspect.iscoroutinefunction(awaited[name]) == (name != "counters")
    assert inspect.signature(connect).parameters == inspect.signature(peer.connect).parameters


# -- connecting ---------------------------------------------------------------------------------


def test_connect_is_awaited_or_entered_or_made_a_task(here: HereBroker) -> None:
    """Whichever way, it is closed at the end, and leaves nothing (P24)."""

    async def work() -> None:
        async with connect(here.frontend, "entered") as bus:
            assert bus.name == "entered"
            assert bus.is_attached
        assert not bus.is_open
        async with await connect(here.frontend, "awaited") as bus:
            assert bus.name == "awaited"
        task = asyncio.create_task(connect(here.frontend, "task"))
        bus = await asyncio.wait_for(task, BOUND_S)
        one, other = await asyncio.gather(connect(here.frontend), connect(here.frontend))
        for each in (bus, one, other):
            await each.close()

    with leaving_nothing():
        in_a_loop(work)


def test_without_a_broker_it_is_said_in_time(runtime_dir: Path) -> None:
    """By either way; the loop runs meanwhile."""

    async def work() -> None:
        nobody = f"ipc://{runtime_dir}/nobody"
        began = time.monotonic()
        with pytest.raises(BrokerUnreachable):
            await connect(nobody, timeout=0.2)
        with pytest.raises(BrokerUnreachable):
            async with connect(nobody, timeout=0.2):
                raise AssertionError("it is entered without a broker")
        assert 0.4 <= time.monotonic() - began < 3.0
        with pytest.raises(InvalidTimeout):
            await connect(nobody, timeout=math.nan)

    with leaving_nothing():
        in_a_loop(work)


def test_who_gives_a_connect_up_gets_no_peer_that_nobody_has(here: HereBroker) -> None:
    """Cancelled while it waits or just as it succeeds: the peer is closed again."""

    async def work() -> None:
        with here.stopped(), pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(connect(here.frontend, timeout=BOUND_S), 0.05)
        for number in range(40):
            task = asyncio.create_task(connect(here.frontend, timeout=BOUND_S))
            await asyncio.sleep(0.0005 * number)
            task.cancel()
            outcome = (await asyncio.gather(task, return_exceptions=True))[0]
            if isinstance(outcome, Peer):
                await outcome.close(drain=0.0)

    with leaving_nothing():
        in_a_loop(work)
    until(lambda: here.see(lambda daemon: len(daemon.broker.roster)) == 0, "none is attached")


# -- asking -------------------------------------------------------------------------------------


def test_it_does_what_the_blocking_face_does(here: HereBroker, servant: Servant) -> None:
    """Each call once, and its errors."""

    async def work() -> None:
        async with connect(here.frontend, "engine") as bus:
            await bus.wait_served("echo", timeout=BOUND_S)
            assert await bus.request("echo", {"a": [1]}, timeout=BOUND_S) == {"a": [1]}
            with pytest.raises(HandlerError):
                await bus.request("raise", timeout=BOUND_S)
            with pytest.raises(NoHandler):
                await bus.request("nobody", timeout=BOUND_S)
            with pytest.raises(RequestTimeout):
                await bus.wait_served("nobody", timeout=0.05)
            with pytest.raises(RequestTimeout):
                await bus.request("hold", timeout=0.05)
            await bus.push("note", 1)
            assert await bus.flush(timeout=BOUND_S) == 0
            assert servant.taken == [1]
            assert bus.counters().delivered == 1
            for wrong in (math.nan, 0, -1, True, "1", None):
                with pytest.raises(InvalidTimeout):
                    await bus.request("echo", timeout=wrong)  # type: ignore[arg-type]
                with pytest.raises(InvalidTimeout):
                    await bus.flush(timeout=wrong)  # type: ignore[arg-type]
            with pytest.raises(InvalidTimeout):
                await bus.close(drain=math.nan)
            assert (await bus.close(drain=0.0)).requests == 0
            with pytest.raises(ClosedError):
                await bus.request("echo", timeout=BOUND_S)
            with pytest.raises(ClosedError):
                await bus.submit("echo", timeout=BOUND_S)
            with pytest.raises(ClosedError):
                await bus.push("note", 1)
            assert isinstance(bus.error, ClosedError)

    in_a_loop(work)


def test_request_all_has_an_entry_for_every_name(here: HereBroker, servant: Servant) -> None:
    """As with the blocking face, of what is no name as well."""

    async def work() -> None:
        async with connect(here.frontend) as bus:
            names: list[Any] = ["server", "gone", "", "two words", None, "server"]
            outcomes = await bus.request_all(names, "echo", 4, timeout=BOUND_S)
            assert list(outcomes) == ["server", "gone", "", "two words", None]
            assert outcomes["server"] == 4
            assert isinstance(outcomes["gone"], NoTarget)
            assert {type(outcomes[name]) for name in names[2:5]} == {InvalidName}
            failed = await bus.request_all(["server"], "echo", object(), timeout=BOUND_S)
            assert isinstance(failed["server"], UnencodableBody)

    in_a_loop(work)


def test_many_requests_at_once(here: HereBroker, servant: Servant) -> None:
    """Two hundred in one gather, half of which fail, and each has its own outcome."""

    async def work() -> None:
        async with connect(here.frontend) as bus:
            outcomes = await asyncio.gather(
                *(
                    bus.request("echo" if n % 2 else "raise", n, timeout=BOUND_S)
                    for n in range(200)
                ),
                return_exceptions=True,
            )
            assert outcomes[1::2] == list(range(1, 200, 2))
            assert {type(outcome) for outcome in outcomes[::2]} == {HandlerError}

    in_a_loop(work)


def test_submit_has_sent_it_when_it_returns(here: HereBroker, servant: Servant) -> None:
    """What is wrong with it is raised at once; its future has the reply or the error."""

    async def work() -> None:
        async with connect(here.frontend) as bus:
            held = await bus.submit("hold", 1, timeout=BOUND_S)
            until(lambda: servant.held, "the handler runs, though this loop does not")
            failed = await bus.submit("raise", timeout=BOUND_S)
            await asyncio.wait([failed], timeout=BOUND_S)
            assert isinstance(failed.exception(), HandlerError)
            servant.go_on.set()
            assert await held == 1
            with pytest.raises(UnencodableBody):
                await bus.submit("echo", object(), timeout=BOUND_S)
            for _ in range(10):
                await bus.submit("raise", timeout=BOUND_S)  # nobody looks at these
            await eventually(lambda: bus.counters().open_requests == 0)

    in_a_loop(work)


def test_a_reply_that_cannot_be_read_is_its_callers_trouble(
    here: HereBroker, servant: Servant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Malformed from the await, and the loop and the I/O thread go on."""

    def garble(value: Any) -> tuple[bytes, tuple[bytes | memoryview, ...]]:
        body, frames = encode_body(value)
        return (b"\xc1" + body, frames) if value == "garble" else (body, frames)

    monkeypatch.setattr("zbus.peer.dispatcher.encode_body", garble)

    async def work() -> None:
        async with connect(here.frontend) as bus:
            with pytest.raises(Malformed):
                await bus.request("echo", "garble", timeout=BOUND_S)
            with pytest.raises(Malformed):
                await (await bus.submit("echo", "garble", timeout=BOUND_S))
            outcomes = await bus.request_all(["server"], "echo", "garble", timeout=BOUND_S)
            assert isinstance(outcomes["server"], Malformed)
            assert await bus.request("echo", 1, timeout=BOUND_S) == 1

    in_a_loop(work)


# -- giving up ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["request", "submit", "request_all", "wait_for"])
def test_a_cancelled_task_tells_the_handler(here: HereBroker, servant: Servant, how: str) -> None:
    """And leaves no request open."""

    async def work() -> None:
        async with connect(here.frontend) as bus:
            started: asyncio.Future[Any]
            if how == "request":
                started = asyncio.create_task(bus.request("hold", timeout=BOUND_S))
            elif how == "submit":
                started = await bus.submit("hold", timeout=BOUND_S)
            elif how == "request_all":
                asked = bus.request_all(["server"], "hold", timeout=BOUND_S)
                started = asyncio.create_task(asked)
            else:
                asking = bus.request("hold", timeout=BOUND_S)
                started = asyncio.create_task(asyncio.wait_for(asking, 0.3))
            await eventually(lambda: servant.held)
            if how != "wait_for":
                started.cancel()
            with pytest.raises((asyncio.CancelledError, asyncio.TimeoutError)):
                await started
            await eventually(lambda: servant.is_told())
            assert bus.counters().open_requests == 0

    in_a_loop(work)


def test_a_cancelled_close_goes_on_to_its_end(here: HereBroker, servant: Servant) -> None:
    """The task is free at once; the peer is closed all the same."""

    async def work() -> None:
        bus = await connect(here.frontend)
        held = await bus.submit("hold", timeout=BOUND_S)
        await eventually(lambda: servant.held)
        closing = asyncio.create_task(bus.close(drain=0.2))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(Cancelled):
            await held
        await eventually(lambda: not bus.is_open)

    in_a_loop(work)


def test_after_an_exception_a_block_does_not_drain(here: HereBroker, servant: Servant) -> None:
    """What is open ends as Cancelled, and the exception goes on."""

    async def work() -> None:
        async with connect(here.frontend) as bus:
            held = await bus.submit("hold", timeout=BOUND_S)
            raise LookupError(held)

    began = time.monotonic()
    with pytest.raises(LookupError):
        in_a_loop(work)
    assert time.monotonic() - began < 3.0


# -- loops --------------------------------------------------------------------------------------


def test_p11_a_blocked_loop_keeps_no_heartbeat_waiting(here: HereBroker) -> None:
    """For seven heartbeats; afterwards it goes on as if nothing had been."""

    async def work() -> None:
        async with connect(here.frontend) as bus:
            threading.Event().wait(1.4)
            assert await bus.request("zbus.ping", timeout=BOUND_S)
            assert bus.counters().losses == 0

    in_a_loop(work)
    assert here.events("peer_lost") == 1


def test_a_loop_may_be_closed_before_the_peer(here: HereBroker, servant: Servant) -> None:
    """What it waited for reaches nobody and hurts nobody; another loop goes on with the peer."""

    async def first() -> Peer:
        bus = await connect(here.frontend)
        for _ in range(20):
            await bus.submit("hold", timeout=BOUND_S)
        await bus.push("wait", 1)
        asyncio.get_running_loop().create_task(bus.flush(timeout=BOUND_S))
        await asyncio.sleep(0)
        return bus

    async def second() -> None:
        assert await bus.request("zbus.ping", timeout=BOUND_S)
        servant.go_on.set()
        await eventually(lambda: bus.counters().open_requests == 0)
        assert await bus.flush(timeout=BOUND_S) == 0
        assert await bus.request("echo", 1, timeout=BOUND_S) == 1
        await bus.close()

    bus = in_a_loop(first)
    in_a_loop(second)


def test_two_loops_share_a_peer(here: HereBroker, servant: Servant) -> None:
    """Each outcome reaches the loop that asked."""
    bus = in_a_loop(lambda: connect(here.frontend))

    async def ask(loop: int) -> list[Any]:
        return await asyncio.gather(
            *(bus.request("echo", (loop, n), timeout=BOUND_S) for n in range(100))
        )

    runs = [in_a_thread(partial(in_a_loop, partial(ask, loop))) for loop in range(3)]
    for thread, _ in runs:
        ended(thread)
    assert [results[0] for _, results in runs] == [
        [(loop, n) for n in range(100)] for loop in range(3)
    ]
    in_a_loop(bus.close)


def test_flush_is_woken_by_the_last_push(here: HereBroker, servant: Servant) -> None:
    """It neither looks again and again nor holds the loop up; its time may be up before."""

    async def work() -> None:
        async with connect(here.frontend) as bus:
            await bus.push("wait", 1)
            assert await bus.flush(timeout=0.05) == 1
            assert bus._channel._link._settlements == {}
            waiting = asyncio.create_task(bus.flush(timeout=BOUND_S))
            await asyncio.sleep(0.01)
            servant.go_on.set()
            assert await waiting == 0

    in_a_loop(work)


def test_zbus_aio_is_the_awaited_bus(here: HereBroker) -> None:
    """The name that users write."""

    async def work() -> Any:
        async with zbus.aio.connect(here.frontend) as bus:
            return await bus.request("zbus.ping", timeout=BOUND_S)

    assert in_a_loop(work)["broker"]
