"""The pool stays whole whatever its handlers do, and ends every call exactly once (P12)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty
from typing import Any

import pytest
from benches import END_S, FAILURES, WHOLE_S, Bench, Waiting, benches, threads, until, workers

from zbus.errors import (
    BadReply,
    Cancelled,
    Executed,
    HandlerError,
    InternalError,
    NoHandler,
    Overloaded,
    RequestTimeout,
)
from zbus.peer import pool as room
from zbus.peer.call import DONE, Result, Returned


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    with benches() as make:
        yield make


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()


# -- ordinary work ----------------------------------------------------------------------------


def test_nothing_is_started_before_it_is_needed(make: Callable[..., Bench]) -> None:
    """A pool without work has no threads, and grows no further than its size."""
    bench = make(size=3)
    assert threads() == []
    waitings = [bench.submit("echo", number) for number in range(50)]
    assert [waiting.value() for waiting in waitings] == list(range(50))
    assert len(workers()) == 3


def test_async_handlers_need_no_workers(make: Callable[..., Bench]) -> None:
    """A pool of async handlers has a loop and a watch, and nothing else."""
    bench = make(size=3)
    bench.dispatcher.add("aecho", aecho)
    assert [bench.submit("aecho", number).value() for number in range(5)] == list(range(5))
    assert sorted(threads()) == ["zbus-handler-loop", "zbus-handler-watch"]


async def aecho(body: Any) -> Any:
    return body


def test_handlers_run_at_once_up_to_the_size(make: Callable[..., Bench]) -> None:
    """As many requests as there are workers are in their handlers together; the next one waits."""
    bench = make(size=3)
    waitings = [bench.submit("hang") for _ in range(4)]
    for _ in range(3):
        bench.began_within()
    with pytest.raises(Empty):
        bench.began.get(timeout=0.05)
    bench.gate.set()
    assert [waiting.value() for waiting in waitings] == ["late"] * 4


def test_a_topic_without_a_handler_is_told_at_once(bench: Bench) -> None:
    """Requests and pushes for it end as NoHandler, and have not run."""
    bench.submit("other").error(NoHandler, Executed.NO)
    for waiting in bench.push("a", "other", 1, 2):
        waiting.error(NoHandler, Executed.NO)
    assert threads() == []


def test_a_call_whose_end_cannot_be_told_harms_nobody(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A ``finish`` that raises is logged, and the worker goes on."""
    waiting = Waiting("echo", 1, time.monotonic() + END_S)

    def refuse(_result: Result) -> None:
        raise ValueError

    waiting.call.finish = refuse
    bench.pool.submit(waiting.call)
    until(lambda: "could not be finished" in caplog.text)
    assert bench.submit("echo", 2).value() == 2


# -- pushes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_lane_keeps_order_and_runs_one_at_a_time(make: Callable[..., Bench], size: int) -> None:
    """Whatever the number of workers, lanes and batches, each lane is served in order."""
    bench = make(size=size)
    seen: dict[str, list[int]] = {key: [] for key in "abcde"}
    inside: set[str] = set()

    def takes(body: Any) -> None:
        lane, number = body
        assert lane not in inside
        inside.add(lane)
        seen[lane].append(number)
        inside.discard(lane)

    bench.dispatcher.add("takes", takes)
    ends = []
    for start in range(0, 1_000, 100):
        for lane in seen:
            bodies = [[lane, number] for number in range(start, start + 100)]
            ends += bench.push(lane, "takes", *bodies)
    assert all(waiting.result() is DONE for waiting in ends)
    assert seen == {key: list(range(1_000)) for key in "abcde"}


def test_a_slow_lane_does_not_keep_others_waiting(bench: Bench) -> None:
    """A lane with much to do gives the worker back after its slice of time."""

    def slow(body: Any) -> None:
        end = time.monotonic() + 0.001
        while time.monotonic() < end:
            pass
        bench.seen.append(body)

    bench.dispatcher.add("slow", slow)
    long = bench.push("long", "slow", *range(300))
    (short,) = bench.push("short", "see", "short")
    assert bench.submit("echo", 1).value() == 1
    assert not long[-1].has_ended
    assert all(waiting.result() is DONE for waiting in [*long, short])
    assert bench.seen.index("short") < 100


def test_pushes_leave_a_worker_for_requests(make: Callable[..., Bench]) -> None:
    """However many lanes hang, a request is served at once."""
    bench = make(size=3)
    for lane in range(9):
        bench.push(lane, "hang", lane)
    for _ in range(2):
        bench.began_within()
    assert bench.submit("echo", 1).value() == 1
    assert bench.began.empty()


def test_a_failing_push_does_not_end_its_lane(bench: Bench) -> None:
    """Each push ends by itself: the failed one as an error, those behind it well."""
    failed, *_ = bench.push("a", "fail", *range(len(FAILURES)))
    failed.error(HandlerError, Executed.YES)
    (after,) = bench.push("a", "fail", 0)
    after.error(HandlerError, Executed.YES)
    assert bench.push("b", "see", 7)[0].result() is DONE
    assert bench.seen == [7]


def test_async_pushes_keep_order_too(bench: Bench) -> None:
    """Lanes of an async handler are served by the event loop."""

    async def takes(body: Any) -> None:
        await asyncio.sleep(0)
        bench.seen.append(body)

    bench.dispatcher.add("takes", takes)
    ends = bench.push("a", "takes", *range(50)) + bench.push("a", "takes", *range(50, 100))
    assert all(waiting.result() is DONE for waiting in ends)
    assert bench.seen == list(range(100))


def test_no_pushes_are_no_work(bench: Bench) -> None:
    """An empty batch starts nothing."""
    bench.push("a", "see")
    assert threads() == []


# -- P12: handlers cannot hurt the pool ---------------------------------------------------------


@pytest.mark.parametrize("topic", ["fail", "fail_async"])
def test_p12_handlers_may_raise_anything(bench: Bench, topic: str) -> None:
    """After every kind of exception the same two workers, or the same loop, go on."""
    for waiting in [bench.submit(topic, number) for number in range(len(FAILURES))]:
        waiting.error(HandlerError, Executed.YES)
    before = threads()
    assert bench.submit("echo", 1).value() == 1
    assert set(before) <= set(threads())
    assert len(workers()) <= 2


def test_p12_handlers_may_return_anything(bench: Bench) -> None:
    """What cannot be sent is a BadReply, and the worker goes on."""
    bench.dispatcher.add("bad", lambda body: object())
    for _ in range(5):
        bench.submit("bad").error(BadReply, Executed.YES)
    assert len(workers()) == 2


def test_p12_a_hanging_handler_is_replaced(bench: Bench) -> None:
    """Soon after the deadline of those that hang, the pool has as many workers as before; the
    late results are handed over, and then their threads end."""
    hanging = [bench.submit("hang", timeout_s=0.1) for _ in range(2)]
    requests = [bench.began_within() for _ in range(2)]
    began = time.monotonic()
    together = threading.Barrier(2)
    bench.dispatcher.add("meet", lambda body: together.wait(END_S) * 0)
    meeting = [bench.submit("meet") for _ in range(2)]
    assert [waiting.value() for waiting in meeting] == [0, 0]
    assert time.monotonic() - began < 0.1 + WHOLE_S
    assert all(request.cancelled for request in requests)
    assert not any(waiting.has_ended for waiting in hanging)
    assert len(workers()) == 4
    bench.gate.set()
    assert [waiting.value() for waiting in hanging] == ["late", "late"]
    until(lambda: len(workers()) == 2)
    assert [bench.submit("echo", 1).value() for _ in range(9)] == [1] * 9
    assert len(workers()) == 2


def test_p12_a_handler_that_hangs_after_a_quiet_time_is_replaced(bench: Bench) -> None:
    """An idle pool looks for nothing, and looks again once it has work."""
    assert bench.submit("echo", 1).value() == 1
    until(lambda: bench.pool._asleep)
    began = time.monotonic()
    bench.submit("hang", timeout_s=0.05)
    until(lambda: bench.pool._stuck)
    assert time.monotonic() - began < 0.05 + WHOLE_S


def test_a_handler_within_its_time_is_left_alone(bench: Bench) -> None:
    """A worker is not replaced before the deadline of its request."""
    bench.submit("hang")
    bench.began_within()
    for _ in range(3):
        bench.pool._inspect(time.monotonic())
    assert len(workers()) == 1
    assert bench.submit("echo", 1).value() == 1


def test_p12_threads_that_hang_are_bounded(make: Callable[..., Bench]) -> None:
    """Beyond the bound workers are not replaced; once all of them hang, requests are refused at
    once as Overloaded, those that wait too; and when the handlers end, the pool is whole."""
    bench = make(size=2, stuck_max=1)
    hanging = [bench.submit("hang", timeout_s=0.05)]
    bench.began_within()
    until(lambda: len(bench.pool._stuck) == 1)
    hanging += [bench.submit("hang", timeout_s=0.3) for _ in range(2)]
    for _ in range(2):
        bench.began_within()
    waits = bench.submit("echo", 1)
    refused = waits.error(Overloaded, Executed.NO)
    assert refused.retry_after_s > 0.0
    bench.submit("echo", 2).error(Overloaded, Executed.NO)
    bench.submit("hang_async", timeout_s=0.05).error(RequestTimeout, Executed.YES)
    assert len(workers()) == 3
    bench.gate.set()
    assert [waiting.value() for waiting in hanging] == ["late"] * 3
    until(lambda: len(workers()) == 2)
    until(lambda: isinstance(bench.submit("echo", 3).result(), Returned))


def test_p12_a_hanging_push_keeps_only_its_lane(make: Callable[..., Bench]) -> None:
    """After the patience for pushes its worker is replaced. Its own lane waits, since its order
    would be lost; others go on, also with a pool of one; and at the end nothing is missing."""
    bench = make(size=1, push_patience_s=0.1)
    stuck = bench.push("a", "hang", 0, 1, 2)
    request = bench.began_within()
    assert bench.push("b", "see", 7)[0].result(2.0) is DONE
    assert bench.submit("echo", 1).value(2.0) == 1
    assert not request.cancelled, "a push has no deadline"
    stuck += bench.push("a", "hang", 3)
    assert bench.began.empty()
    bench.gate.set()
    assert all(waiting.result() is DONE for waiting in stuck)
    assert bench.seen == [7, 0, 1, 2, 3]
    until(lambda: len(workers()) == 1)
    until(lambda: not bench.pool._rota._lanes)
    assert (bench.pool._rota._asked, bench.pool._rota._taken) == (0, 0)


def test_p12_hanging_async_handlers_cost_no_thread(bench: Bench) -> None:
    """They are interrupted at their deadline, however many they are."""
    hanging = [bench.submit("hang_async", timeout_s=0.1) for _ in range(50)]
    for waiting in hanging:
        waiting.error(RequestTimeout, Executed.YES)
    assert len(threads()) <= 4


def test_p12_an_async_handler_that_blocks_is_replaced(bench: Bench) -> None:
    """The others get another loop soon after its deadline."""
    blocking = bench.submit("block_async", timeout_s=0.1)
    bench.began_within()
    began = time.monotonic()
    waiting = bench.submit("hang_async", timeout_s=5.0)
    assert bench.began_within() is not None
    assert time.monotonic() - began < 0.1 + WHOLE_S
    bench.pool.cancel(waiting.call)
    waiting.error(Cancelled, Executed.YES)
    bench.gate.set()
    assert blocking.value() == "late"


def test_a_fault_of_ours_still_ends_the_call(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should running a handler itself be broken, the caller gets an InternalError."""

    def broken(*_: Any) -> Result:
        raise ZeroDivisionError

    monkeypatch.setattr(room, "perform", broken)
    bench.submit("echo").error(InternalError, Executed.MAYBE)


# -- giving up ------------------------------------------------------------------------------------


def test_a_caller_that_gives_up_is_shown_to_the_handler(bench: Bench) -> None:
    """A sync handler sees it, an async one is interrupted, and what waits never starts."""
    sync = bench.submit("hang")
    request = bench.began_within()
    bench.submit("hang")
    bench.began_within()
    waits = bench.submit("hang")
    loops = bench.submit("hang_async")
    bench.began_within()
    for waiting in (sync, waits, loops):
        bench.pool.cancel(waiting.call)
    loops.error(Cancelled, Executed.YES)
    assert request.cancelled
    bench.gate.set()
    assert sync.value() == "late"
    waits.error(Cancelled, Executed.NO)


def test_work_that_waited_too_long_never_starts(bench: Bench) -> None:
    """A request whose deadline passes while all workers are busy is not begun (P2)."""
    for _ in range(2):
        bench.submit("hang")
        bench.began_within()
    late = bench.submit("hang", timeout_s=0.01)
    until(lambda: late.call.deadline is not None and time.monotonic() > late.call.deadline)
    bench.gate.set()
    late.error(RequestTimeout, Executed.NO)
