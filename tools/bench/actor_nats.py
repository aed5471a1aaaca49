"""NATS with nats-py on uvloop: ``actor_nats.py server|client ADDRESS``; ADDRESS has ``url``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import nats
import uvloop
from orders import BODY, WARM_UP, Tally, awaited_round_trips, awaited_windowed, looped, obey

_TIMEOUT_S = 60.0
_YIELD_EVERY = 256


def main() -> None:
    """Be what the command line says."""
    role, address = sys.argv[1], json.loads(sys.argv[2])
    loop = uvloop.new_event_loop()
    make = {"server": _server, "client": _client}[role]
    obey(looped(loop.run_until_complete(make(address["url"])), loop))


async def _attached(url: str) -> Any:
    return await nats.connect(
        url,
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,
        connect_timeout=_TIMEOUT_S,
    )


async def _server(url: str) -> dict[str, Callable[..., Any]]:
    bus, tally = await _attached(url), Tally()

    async def echo(message: Any) -> None:
        await message.respond(message.data)

    async def size(message: Any) -> None:
        await message.respond(b"%d" % len(message.data))

    async def sink(message: Any) -> None:
        tally.note(message.data)

    for topic, handler in (("echo", echo), ("size", size), ("sink", sink)):
        await bus.subscribe(topic, cb=handler, pending_msgs_limit=-1, pending_bytes_limit=-1)
    await bus.flush()

    async def counted() -> dict[str, float]:
        return tally.told()

    return {"counted": counted}


async def _client(url: str) -> dict[str, Callable[..., Any]]:
    bus = await _attached(url)

    async def ask() -> None:
        await bus.request("echo", BODY, timeout=_TIMEOUT_S)

    async def sequential(seconds: float) -> Any:
        for _ in range(WARM_UP):
            await ask()
        return await awaited_round_trips(ask, seconds)

    async def pipelined(seconds: float, width: int) -> Any:
        return await awaited_windowed(ask, width, seconds)

    async def push(seconds: float) -> Any:
        sent, began = 0, time.monotonic()
        end = began + seconds
        while time.monotonic() < end:
            await bus.publish("sink", BODY)
            sent += 1
        await bus.flush(_TIMEOUT_S)
        return {"sent": sent, "began": began, "left": 0}

    async def arrays(size: int, times: int) -> Any:
        array, took = bytes(size), []
        for _ in range(times):
            began = time.perf_counter()
            reply = await bus.request("size", array, timeout=_TIMEOUT_S)
            took.append(time.perf_counter() - began)
            assert reply.data == b"%d" % size
        return {"seconds": took}

    return {"sequential": sequential, "pipelined": pipelined, "push": push, "arrays": arrays}


if __name__ == "__main__":
    main()
