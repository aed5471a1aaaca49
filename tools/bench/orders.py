"""The inside of an actor: one process of the bench, told by lines of JSON what to do.

Each line it reads, ``{"order": {arguments}}``, is answered by one line. It says ``{"ready": …}``
first, and ends with its input. What is timed here is timed the same way for every system.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

__all__ = [
    "BODY",
    "WARM_UP",
    "Tally",
    "awaited_round_trips",
    "awaited_windowed",
    "looped",
    "obey",
    "round_trips",
    "until",
    "windowed",
]

T = TypeVar("T")
BODY = bytes(range(128))
WARM_UP = 100
_START_S = 30.0


def obey(orders: dict[str, Callable[..., Any]]) -> None:
    """Answer orders until the input ends."""
    print(json.dumps({"ready": sorted(orders)}), flush=True)
    for line in sys.stdin:
        for order, arguments in json.loads(line).items():
            print(json.dumps(orders[order](**arguments)), flush=True)


class Tally:
    """What a handler of pushes counts."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, _body: object) -> None:
        """One was handled."""
        self.count += 1

    def told(self) -> dict[str, float]:
        """How many were handled until now."""
        return {"count": self.count, "at": time.monotonic()}


def round_trips(ask: Callable[[], object], seconds: float) -> dict[str, Any]:
    """Ask one at a time; how long each took."""
    clock = time.perf_counter
    took = []
    end = clock() + seconds
    while (began := clock()) < end:
        ask()
        took.append(clock() - began)
    return {"took_us": [round(each * 1e6, 1) for each in took], "done": len(took)}


def windowed(
    begin: Callable[[], T],
    finish: Callable[[T], object],
    width: int,
    seconds: float,
    is_done: Callable[[T], bool] = lambda _: False,
) -> dict[str, float]:
    """Keep ``width`` requests open: wait for the oldest, take those that are done by then, and
    ask as many anew."""
    clock = time.perf_counter
    pending = deque(begin() for _ in range(width))
    done, began = 0, clock()
    end = began + seconds
    while clock() < end:
        finish(pending.popleft())
        while pending and is_done(pending[0]):
            finish(pending.popleft())
        done += width - len(pending)
        while len(pending) < width:
            pending.append(begin())
    took_s = clock() - began
    for each in pending:
        finish(each)
    return {"done": done, "all": done + width, "seconds": took_s}


async def awaited_round_trips(ask: Callable[[], Awaitable[object]], seconds: float) -> Any:
    """``round_trips`` on an event loop."""
    clock = time.perf_counter
    took = []
    end = clock() + seconds
    while (began := clock()) < end:
        await ask()
        took.append(clock() - began)
    return {"took_us": [round(each * 1e6, 1) for each in took], "done": len(took)}


async def awaited_windowed(
    ask: Callable[[], Awaitable[object]], width: int, seconds: float
) -> dict[str, float]:
    """So many tasks on an event loop, each of which asks one at a time."""
    clock = time.perf_counter
    began = clock()
    end = began + seconds

    async def ask_on() -> int:
        done = 0
        while clock() < end:
            await ask()
            done += 1
        return done

    done = sum(await asyncio.gather(*(ask_on() for _ in range(width))))
    return {"done": done, "all": done, "seconds": clock() - began}


def looped(
    orders: dict[str, Callable[..., Any]], loop: asyncio.AbstractEventLoop
) -> dict[str, Callable[..., Any]]:
    """The orders as functions, whose coroutines run on a loop that a thread turns from now on."""
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def called(order: Callable[..., Any]) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(order(**arguments), loop).result()

        return call

    return {name: called(order) for name, order in orders.items()}


def until(act: Callable[[], T], errors: type[Exception] | tuple[type[Exception], ...]) -> T:
    """Try until it does not raise these: what it needs is just starting."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            return act()
        except errors:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
