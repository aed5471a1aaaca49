"""A pool that closes, or for which the machine has nothing left, ends every call too (P24)."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest
from benches import END_S, Bench, Waiting, benches, threads, until

from zbus.errors import (
    Cancelled,
    Draining,
    Executed,
    Overloaded,
)
from zbus.peer.pool import HandlerPool


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    with benches() as make:
        yield make


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()


# -- closing --------------------------------------------------------------------------------------


def test_p24_close_leaves_no_thread(make: Callable[..., Bench]) -> None:
    """After work of every kind, close returns 0 and leaves nothing; a second one does too."""
    bench = make()
    waitings = [bench.submit("echo"), bench.submit("fail_async", 0), *bench.push("a", "see", 1)]
    for waiting in waitings:
        waiting.result()
    assert len(threads()) == 4
    assert bench.close() == 0
    assert threads() == []
    assert bench.close() == 0


def test_p18_close_waits_for_what_is_open(make: Callable[..., Bench]) -> None:
    """What was given before is done, queued requests and pushes too; what comes later is told
    to go elsewhere."""
    bench = make()
    bench.dispatcher.add("nap", lambda body: threading.Event().wait(0.02))
    waitings = [bench.submit("nap") for _ in range(6)] + bench.push("a", "nap", *range(6))
    lefts: SimpleQueue[int] = SimpleQueue()
    closing = threading.Thread(target=lambda: lefts.put(bench.close()), daemon=True)
    closing.start()
    until(lambda: bench.pool._closing)
    bench.submit("echo").error(Draining, Executed.NO)
    bench.push("b", "see", 1)[0].error(Draining, Executed.NO)
    assert lefts.get(timeout=END_S) == 0
    assert all(waiting.has_ended for waiting in waitings)
    assert threads() == []


def test_close_gives_up_in_time_and_ends_every_call(make: Callable[..., Bench]) -> None:
    """When the drain is over, what hangs is shown that it is cancelled and ended as such; what
    has not begun is said not to have run; the count is told, and no late end is told twice."""
    bench = make()
    running = [bench.submit("hang", number) for number in range(2)]
    requests = [bench.began_within() for _ in range(2)]
    waiting = [bench.submit("echo") for _ in range(3)] + bench.push("a", "see", 1, 2)
    loops = bench.submit("hang_async")
    bench.began_within()
    began = time.monotonic()
    assert bench.close(0.05) == 8
    assert time.monotonic() - began < 3.0
    assert all(request.cancelled for request in requests)
    for call in running:
        call.error(Cancelled, Executed.MAYBE)
    for call in waiting:
        call.error(Cancelled, Executed.NO)
    loops.error(Cancelled, Executed.YES)
    bench.gate.set()
    until(lambda: not threads())
    assert sorted(bench.seen) == [0, 1]
    assert not any(call.has_ended for call in running)


def test_a_push_that_hangs_at_close_leaves_those_behind_it_not_run(
    make: Callable[..., Bench],
) -> None:
    """They are said not to have run, and do not run afterwards."""
    bench = make()
    stuck, *behind = bench.push("a", "hang", 0, 1, 2)
    bench.began_within()
    assert bench.close(0.0) == 3
    stuck.error(Cancelled, Executed.MAYBE)
    for waiting in behind:
        waiting.error(Cancelled, Executed.NO)
    bench.gate.set()
    until(lambda: not threads())
    assert bench.seen == [0]


def test_a_call_that_meets_the_very_end_ends_too(make: Callable[..., Bench]) -> None:
    """A call that was let in just before the pool closed, and came after the last worker had
    gone, is ended by whoever brought it."""
    bench = make()
    bench.close()
    bench.pool._closing = False
    bench.submit("echo").error(Cancelled, Executed.MAYBE)
    bench.push("a", "see", 1)[0].error(Cancelled, Executed.MAYBE)
    bench.submit("hang_async").error(Cancelled, Executed.MAYBE)
    bench.push("b", "hang_async", 1)[0].error(Cancelled, Executed.MAYBE)
    assert threads() == []


def all_have(many: list[list[Waiting]], least: int) -> bool:
    return all(len(each) >= least for each in many)


def test_every_call_ends_once_while_many_threads_submit_and_one_closes(
    make: Callable[..., Bench],
) -> None:
    """Whatever the moment at which a call meets the closing pool."""
    for _ in range(5):
        bench = make(size=3)
        waitings: list[list[Waiting]] = [[] for _ in range(4)]
        stop = threading.Event()

        def submit_on(into: list[Waiting], bench: Bench, stop: threading.Event) -> None:
            for number in itertools.count():
                if stop.is_set() or number > 2_000:
                    return
                into.append(bench.submit(("echo", "fail_async")[number % 2], 0))
                into.extend(bench.push(id(into), "see", 1, 2))

        submitting = [
            threading.Thread(target=submit_on, args=(into, bench, stop), daemon=True)
            for into in waitings
        ]
        for thread in submitting:
            thread.start()
        until(functools.partial(all_have, waitings, 20))
        bench.close(0.01)
        stop.set()
        for thread in submitting:
            thread.join(END_S)
        for waiting in itertools.chain(*waitings):
            waiting.result()
    until(lambda: not threads())


# -- when the machine has nothing left ----------------------------------------------------------


def refuse_to_start(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_without_threads_to_be_had_requests_are_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool that cannot start its first thread, or its loop, says Overloaded; later it can."""

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse_to_start)
        bench.submit("see", 1).error(Overloaded, Executed.NO)
        bench.submit("hang_async").error(Overloaded, Executed.NO)
        bench.push("a", "hang_async", 1)[0].error(Overloaded, Executed.NO)
    assert bench.submit("see", 2).value() is None
    assert bench.seen == [2], "what was refused must not run later"


def test_with_fewer_threads_to_be_had_the_pool_is_smaller(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one thread started, nothing is refused."""
    assert bench.submit("echo", 1).value() == 1

    monkeypatch.setattr(threading.Thread, "start", refuse_to_start)
    assert bench.submit("echo", 2).value() == 2


def test_a_hanging_handler_without_threads_to_be_had_is_replaced_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The watch goes on after it could not replace a thread; the next request tries again."""
    for _ in range(2):
        bench.submit("hang", timeout_s=0.05)
    for _ in range(2):
        bench.began_within()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse_to_start)
        until(lambda: "could not be replaced" in caplog.text)
        until(lambda: len(bench.pool._stuck) == 2)
        bench.submit("echo", 1).error(Overloaded, Executed.NO)
    assert bench.submit("echo", 2).value() == 2


def test_without_a_watch_the_next_call_starts_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that could not be started costs nobody anything, as long as nothing hangs."""
    assert bench.submit("echo", 1).value() == 1
    until(lambda: bench.pool._asleep)
    fresh = HandlerPool(bench.dispatcher, size=1)
    start = threading.Thread.start

    def start_workers_only(thread: threading.Thread) -> None:
        if thread.name.endswith("watch"):
            raise RuntimeError
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_workers_only)
        waiting = Waiting("echo", 1, time.monotonic() + END_S)
        fresh.submit(waiting.call)
        assert waiting.value() == 1
        assert threads().count("zbus-handler-watch") == 1
    waiting = Waiting("echo", 2, time.monotonic() + END_S)
    fresh.submit(waiting.call)
    assert waiting.value() == 2
    assert threads().count("zbus-handler-watch") == 2
    assert fresh.close(END_S) == 0
