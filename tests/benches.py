"""Pools with handlers that hang, fail and block on demand, for the tests of the pool.

``benches`` makes them, lets everything go at the end, and sees that nothing is left.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from zbus.errors import Executed, ZbusError
from zbus.peer.body import decode_body, encode_body
from zbus.peer.call import Call, Result, Returned
from zbus.peer.dispatcher import Dispatcher, Incoming
from zbus.peer.pool import HandlerPool

__all__ = [
    "END_S",
    "FAILURES",
    "WHOLE_S",
    "Bench",
    "Waiting",
    "benches",
    "threads",
    "until",
    "workers",
]

END_S = 10.0
"""No test waits longer than this for anything."""
WHOLE_S = 1.0
"""P12: the pool is whole again after this long."""


class Bench:
    """A pool with some handlers, where its calls end, and the gate at which handlers hang."""

    def __init__(self, size: int = 2, **options: Any) -> None:
        self.dispatcher = Dispatcher()
        self.pool = HandlerPool(self.dispatcher, size=size, **options)
        self.gate = threading.Event()
        self.began: SimpleQueue[Any] = SimpleQueue()
        self.seen: list[Any] = []
        for name in ("echo", "hang", "hang_async", "block_async", "fail", "fail_async", "see"):
            self.dispatcher.add(name, getattr(self, name))

    def echo(self, body: Any) -> Any:
        return body

    def hang(self, body: Any, request: Incoming) -> Any:
        self.began.put(request)
        assert self.gate.wait(END_S)
        self.seen.append(body)
        return "late"

    async def hang_async(self, body: Any, request: Incoming) -> None:
        self.began.put(request)
        await asyncio.sleep(60)

    async def block_async(self, body: Any, request: Incoming) -> Any:
        return self.hang(body, request)

    def fail(self, body: Any) -> Any:
        raise FAILURES[body]

    async def fail_async(self, body: Any) -> Any:
        raise FAILURES[body]

    def see(self, body: Any) -> None:
        self.seen.append(body)

    def submit(self, topic: str, body: Any = None, timeout_s: float = END_S) -> Waiting:
        waiting = Waiting(topic, body, time.monotonic() + timeout_s)
        self.pool.submit(waiting.call)
        return waiting

    def push(self, lane: Any, topic: str, *bodies: Any) -> list[Waiting]:
        waitings = [Waiting(topic, body, None) for body in bodies]
        self.pool.submit_lane(lane, [waiting.call for waiting in waitings])
        return waitings

    def began_within(self, within_s: float = END_S) -> Incoming:
        request: Incoming = self.began.get(timeout=within_s)
        return request

    def close(self, drain_s: float = END_S) -> int:
        return self.pool.close(drain_s)


class Waiting:
    """A call, and whoever waits for its one end."""

    def __init__(self, topic: str, body: Any, deadline: float | None) -> None:
        packed, frames = encode_body(body)
        self._ends: SimpleQueue[Result] = SimpleQueue()
        self.call = Call(topic, "s", packed, frames, deadline, "", self._ends.put)

    def result(self, within_s: float = END_S) -> Result:
        result = self._ends.get(timeout=within_s)
        assert self._ends.empty(), "it ended twice"
        return result

    def value(self, within_s: float = END_S) -> Any:
        result = self.result(within_s)
        assert isinstance(result, Returned), result
        return decode_body(*result)

    def error(self, kind: type[ZbusError], executed: Executed) -> ZbusError:
        result = self.result()
        assert type(result) is kind, result
        assert result.executed is executed
        return result

    @property
    def has_ended(self) -> bool:
        return not self._ends.empty()


FAILURES: list[BaseException] = [
    ValueError("x"),
    BaseException(),
    SystemExit(1),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError(),
    RecursionError(),
    MemoryError(),
    StopIteration(),
    StopAsyncIteration(),
]


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("zbus-handler")]


def workers() -> list[str]:
    return [name for name in threads() if name.removeprefix("zbus-handler-").isdigit()]


def until(true: Callable[[], object], within_s: float = END_S) -> None:
    """Wait for a condition, not for a time."""
    end = time.monotonic() + within_s
    gate = threading.Event()
    while not true():
        assert time.monotonic() < end, "it did not come true"
        gate.wait(0.005)


@contextmanager
def benches() -> Iterator[Callable[..., Bench]]:
    """Makes benches; at the end their handlers are let go, and no thread must be left."""
    made: list[Bench] = []

    def make(size: int = 2, **options: Any) -> Bench:
        made.append(Bench(size, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.gate.set()
        bench.close()
    until(lambda: not threads())
