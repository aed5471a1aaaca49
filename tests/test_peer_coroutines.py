"""Async handlers share one loop, are interrupted in time, and cannot take the loop with them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from zbus.errors import Cancelled, Executed, HandlerError, RequestTimeout, ZbusError
from zbus.peer import coroutines as room
from zbus.peer.body import decode_body, encode_body
from zbus.peer.call import Call, Result, Returned
from zbus.peer.coroutines import Coroutines
from zbus.peer.dispatcher import Dispatcher, Handler, Incoming

END_S = 10.0


class Bench:
    """Coroutines, and where their calls end."""

    def __init__(self) -> None:
        self.ends: SimpleQueue[tuple[Call, Result]] = SimpleQueue()
        self.coroutines = Coroutines(
            lambda call, result: self.ends.put((call, result)), time.monotonic, 30.0
        )

    def submit(
        self, function: Callable[..., Any], body: Any = None, timeout_s: float = END_S
    ) -> Call:
        call = call_of(body, time.monotonic() + timeout_s)
        self.coroutines.submit(handler_of(function), call)
        return call

    def has_ended(self) -> bool:
        """Whether a call has ended, after another look at the loop."""
        self.coroutines.inspect(time.monotonic())
        return not self.ends.empty()

    def end(self) -> Result:
        return self.ends.get(timeout=END_S)[1]

    def value(self) -> Any:
        result = self.end()
        assert isinstance(result, Returned), result
        return decode_body(*result)

    def error(self, kind: type[ZbusError], executed: Executed) -> ZbusError:
        result = self.end()
        assert type(result) is kind, result
        assert result.executed is executed
        return result


def call_of(body: Any, deadline: float | None) -> Call:
    packed, frames = encode_body(body)
    return Call("t", "s", packed, frames, deadline, "", lambda _result: None)


def handler_of(function: Callable[..., Any]) -> Handler:
    dispatcher = Dispatcher()
    dispatcher.add("t", function)
    found = dispatcher.handler("t")
    assert found is not None
    assert found.is_async
    return found


def loops() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "zbus-handler-loop"]


def until(true: Callable[[], object], within_s: float = END_S) -> None:
    """Wait for a condition, not for a time."""
    end = time.monotonic() + within_s
    gate = threading.Event()
    while not true():
        assert time.monotonic() < end, "it did not come true"
        gate.wait(0.005)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.coroutines.close(5.0)
    assert loops() == []


async def echo(body: Any) -> Any:
    await asyncio.sleep(0)
    return body


def test_nothing_is_started_before_it_is_needed() -> None:
    """Without an async handler there is neither a loop nor a thread."""
    bench = Bench()
    bench.coroutines.inspect(0.0)
    assert loops() == []
    bench.coroutines.close(1.0)


def test_all_handlers_share_one_loop(bench: Bench) -> None:
    """Handlers wait side by side on one thread, and meet there."""
    gates: list[asyncio.Event] = []

    async def waits(body: Any) -> Any:
        gates.append(asyncio.Event())
        if len(gates) == 50:
            for gate in gates:
                gate.set()
        await gates[body].wait()
        return body

    for number in range(50):
        bench.submit(waits, number)
    assert sorted(bench.value() for _ in range(50)) == list(range(50))
    assert len(loops()) == 1


def test_a_lane_keeps_order_and_runs_one_at_a_time(bench: Bench) -> None:
    """Pushes of a lane do not overtake each other, though the handler waits; lanes mix."""
    seen: dict[str, list[int]] = {"a": [], "b": []}
    inside: set[str] = set()
    mixed = [0]

    async def takes(body: Any) -> None:
        lane, number = body
        assert lane not in inside
        mixed[0] += bool(inside)
        inside.add(lane)
        await asyncio.sleep(0)
        seen[lane].append(number)
        inside.discard(lane)

    handler = handler_of(takes)
    for start in range(0, 400, 40):
        for lane in "ab":
            calls = [call_of([lane, number], None) for number in range(start, start + 40)]
            bench.coroutines.submit_lane(lane, handler, calls)
    for _ in range(800):
        assert isinstance(bench.end(), Returned)
    assert seen == {"a": list(range(400)), "b": list(range(400))}
    assert mixed[0]


def test_a_busy_lane_lets_others_in(bench: Bench) -> None:
    """A lane whose handler never waits gives way after a batch."""
    taken: list[int] = []

    async def never_waits(body: Any) -> None:
        taken.append(body)

    async def count(body: Any) -> int:
        return len(taken)

    handler = handler_of(never_waits)
    bench.coroutines.submit_lane("a", handler, [call_of(n, None) for n in range(20_000)])
    asked = bench.submit(count)
    for _ in range(20_001):
        call, result = bench.ends.get(timeout=END_S)
        if call is asked:
            assert isinstance(result, Returned)
            assert decode_body(*result) < 20_000
    assert taken == list(range(20_000))


def test_p12_a_handler_is_interrupted_at_its_deadline(bench: Bench) -> None:
    """Not before it, and once: what it does to clean up is left in peace."""
    cleaned: list[float] = []

    async def sleeps(body: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            cleaned.append(time.monotonic())

    call = bench.submit(sleeps, timeout_s=0.05)
    bench.error(RequestTimeout, Executed.YES)
    assert call.deadline is not None
    assert cleaned[0] >= call.deadline + 0.1
    assert time.monotonic() < call.deadline + 5.0


def test_a_handler_may_go_on_after_its_interruption(bench: Bench) -> None:
    """Who catches the cancellation may still return; the late result is handed over."""

    async def stubborn(body: Any) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "late"

    bench.submit(stubborn, timeout_s=0.05)
    assert bench.value() == "late"


def test_a_caller_that_gives_up_interrupts_the_handler(bench: Bench) -> None:
    """``cancel`` interrupts a handler that has begun."""
    began: SimpleQueue[Incoming] = SimpleQueue()

    async def sleeps(body: Any, request: Incoming) -> None:
        began.put(request)
        await asyncio.sleep(60)

    call = bench.submit(sleeps)
    request = began.get(timeout=END_S)
    assert not request.cancelled
    call.cancelled = True
    bench.coroutines.cancel(call)
    bench.error(Cancelled, Executed.YES)
    assert request.cancelled


def test_work_given_up_before_it_began_never_starts(bench: Bench) -> None:
    """A call that waits for the loop and is given up is not begun."""
    gate = threading.Event()

    async def blocks(body: Any) -> None:
        gate.wait(END_S)

    async def fails(body: Any) -> None:
        raise AssertionError("it was started")

    bench.submit(blocks)
    call = bench.submit(fails)
    call.cancelled = True
    bench.coroutines.cancel(call)
    gate.set()
    bench.end()
    bench.error(Cancelled, Executed.NO)


def test_p12_a_blocked_loop_is_replaced(bench: Bench) -> None:
    """A handler that blocks the loop past its deadline keeps nobody waiting for long: what has
    not begun moves to a new loop, and its own end is handed over when it comes."""
    began, gate = threading.Event(), threading.Event()

    async def blocks(body: Any) -> str:
        began.set()
        gate.wait(END_S)
        return "late"

    blocking = bench.submit(blocks, timeout_s=0.1)
    assert began.wait(END_S)
    waiting = bench.submit(echo, "moved")
    until(bench.has_ended)
    call, result = bench.ends.get(timeout=END_S)
    assert (call, result) == (waiting, Returned(*encode_body("moved")))
    assert blocking.deadline is not None
    assert time.monotonic() < blocking.deadline + 2.0
    assert len(loops()) == 2
    gate.set()
    assert bench.value() == "late"
    until(lambda: len(loops()) == 1)


def test_a_loop_that_is_busy_in_time_is_left_alone(bench: Bench) -> None:
    """Blocking is bad manners, but as long as nobody is late the loop stays: what belongs to
    it, such as an open connection, would not work on another."""
    began, gate = threading.Event(), threading.Event()

    async def blocks(body: Any) -> None:
        began.set()
        gate.wait(END_S)

    bench.submit(blocks)
    assert began.wait(END_S)
    for now in (0.0, 0.5, 1.0, 5.0, 29.0):
        bench.coroutines.inspect(now)
    assert len(loops()) == 1
    bench.coroutines.inspect(31.0)
    assert len(loops()) == 2
    gate.set()
    bench.end()


def test_a_loop_blocked_from_behind_is_replaced(bench: Bench) -> None:
    """What a handler left behind may block the loop, too, when no call is to blame. The retired
    loop ends as soon as it can."""
    began, gate = threading.Event(), threading.Event()

    def block() -> None:
        began.set()
        gate.wait(END_S)

    async def leaves(body: Any) -> None:
        asyncio.get_running_loop().call_later(0.01, block)

    bench.submit(leaves)
    bench.end()
    assert began.wait(END_S)
    bench.submit(echo, "moved")
    bench.coroutines.inspect(0.0)
    bench.coroutines.inspect(31.0)
    assert bench.value() == "moved"
    assert len(loops()) == 2
    gate.set()
    until(lambda: len(loops()) == 1)


def test_retired_loops_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where handlers go on blocking loop after loop, the last one is kept."""
    monkeypatch.setattr(room, "_RETIRED_MAX", 2)
    began: SimpleQueue[None] = SimpleQueue()
    gate = threading.Event()

    async def blocks(body: Any) -> None:
        began.put(None)
        gate.wait(END_S)

    for number in range(4):
        bench.submit(blocks)
        if number < 3:
            began.get(timeout=END_S)
        bench.coroutines.inspect(0.0)
        bench.coroutines.inspect(31.0)
    assert len(loops()) == 3
    gate.set()
    for _ in range(4):
        bench.end()


def test_an_idle_loop_sleeps(bench: Bench) -> None:
    """Deadlines are looked at only while there are any."""
    bench.submit(echo)
    bench.end()
    loop = bench.coroutines._loop
    assert loop is not None
    until(lambda: not loop._sweeps)
    bench.submit(echo)
    bench.end()


def test_the_order_of_a_lane_survives_a_new_loop(bench: Bench) -> None:
    """Pushes of a lane that is stuck on a retired loop go on waiting behind the stuck one."""
    began, gate = threading.Event(), threading.Event()
    seen: list[int] = []

    async def takes(body: Any) -> None:
        if body == 0:
            began.set()
            gate.wait(END_S)
        seen.append(body)

    handler = handler_of(takes)
    bench.coroutines.submit_lane("a", handler, [call_of(n, None) for n in range(3)])
    assert began.wait(END_S)
    bench.coroutines.inspect(0.0)
    bench.coroutines.inspect(31.0)
    bench.coroutines.submit_lane("a", handler, [call_of(n, None) for n in range(3, 6)])
    bench.coroutines.submit_lane("b", handler, [call_of(9, None)])
    bench.end()
    assert seen == [9]
    gate.set()
    for _ in range(6):
        bench.end()
    assert seen == [9, 0, 1, 2, 3, 4, 5]


def test_p12_a_handler_cannot_stop_the_loop(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Neither by stopping it, nor by SystemExit in a task that it began."""

    async def stops(body: Any) -> str:
        asyncio.get_running_loop().stop()
        return "stopped"

    async def leaves(body: Any) -> str:
        async def exits() -> None:
            raise SystemExit

        task = asyncio.create_task(exits())
        with pytest.raises(SystemExit):
            await task
        return "left"

    for handler, said in ((stops, "stopped"), (leaves, "left"), (echo, "x")):
        bench.submit(handler, "x")
        assert bench.value() == said
    assert "a task that a handler began has raised" in caplog.text


def test_a_handler_that_raises_harms_nobody(bench: Bench) -> None:
    """The loop goes on after every kind of exception."""

    async def raises(body: Any) -> None:
        raise [SystemExit, KeyboardInterrupt, asyncio.CancelledError, ValueError][body]

    for number in range(4):
        bench.submit(raises, number)
        bench.error(HandlerError, Executed.YES)
    bench.submit(echo, 1)
    assert bench.value() == 1


def test_close_interrupts_what_runs() -> None:
    """Handlers that wait end as cancelled, tasks that they began too, and the thread is gone."""
    bench = Bench()
    began: SimpleQueue[None] = SimpleQueue()
    beside: list[str] = []

    async def goes_on() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            beside.append("ended")

    kept: list[asyncio.Task[None]] = []

    async def sleeps(body: Any) -> None:
        kept.append(asyncio.create_task(goes_on()))
        await asyncio.sleep(0)
        began.put(None)
        await asyncio.sleep(60)

    call = bench.submit(sleeps)
    began.get(timeout=END_S)
    call.cancelled = True
    bench.coroutines.close(5.0)
    bench.error(Cancelled, Executed.YES)
    assert beside == ["ended"]
    assert loops() == []
    bench.submit(echo)
    assert bench.ends.empty(), "after close nothing is begun"


def test_close_does_not_wait_for_the_stubborn(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that goes on after its interruption, for ever, does not hold up close."""
    bench = Bench()
    began = threading.Event()

    async def stubborn(body: Any) -> None:
        while True:
            began.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if body.pop():
                    return

    bench.submit(stubborn, [True, False])
    assert began.wait(END_S)
    before = time.monotonic()
    bench.coroutines.close(0.05)
    assert time.monotonic() - before < 5.0
    until(lambda: not loops())
    assert "has raised" not in caplog.text
