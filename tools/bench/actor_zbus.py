"""The bus through its public face: ``actor_zbus.py server|client|async ADDRESS``.

ADDRESS is JSON: ``frontend``, ``backend``, and over CURVE ``key`` and ``server_key``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from orders import (
    BODY,
    WARM_UP,
    Tally,
    awaited_round_trips,
    awaited_windowed,
    looped,
    obey,
    round_trips,
    windowed,
)

import zbus
from zbus.errors import Backpressure

_TIMEOUT_S = 60.0
_START_S = 30.0
_LONG_S = 3_600.0
_LEAST_S = 0.001


def main() -> None:
    """Be what the command line says."""
    role, address = sys.argv[1], json.loads(sys.argv[2])
    obey({"server": _server, "client": _client, "async": _async}[role](address))


def _attached(address: dict[str, str], **options: Any) -> zbus.Peer:
    keys: dict[str, Any] = {
        name: address[name] for name in ("key", "server_key") if name in address
    }
    end = address["backend" if options.get("role") == "server" else "frontend"]
    return zbus.connect(end, _name(), timeout=_START_S, **keys, **options)


def _name() -> str:
    return f"bench.p{os.getpid()}"


# -- server ------------------------------------------------------------------------------------


def _server(address: dict[str, str]) -> dict[str, Callable[..., Any]]:
    tally, gate = Tally(), asyncio.Event()
    dispatcher = zbus.Dispatcher()
    dispatcher.add("echo", lambda body: body)
    dispatcher.add("sink", tally.note)
    dispatcher.add("size", lambda body: body.nbytes)

    async def hold(_body: object) -> None:
        await gate.wait()

    dispatcher.add("hold", hold)
    for number in range(int(address.get("topics", 0))):
        dispatcher.add(f"topic.{number}", lambda body: body)
    window = int(address.get("window", 1_024))
    limits = zbus.SessionLimits(window=window, remembered=max(2 * window, 65_536))
    _kept.append(_attached(address, role="server", dispatcher=dispatcher, limits=limits))
    return {"counted": tally.told}


# -- client ------------------------------------------------------------------------------------


def _client(address: dict[str, str]) -> dict[str, Callable[..., Any]]:
    bus = _attached(address)
    bus.wait_served("echo", timeout=_START_S)
    _kept.append(bus)
    return {
        "sequential": partial(_sequential, bus),
        "pipelined": partial(_pipelined, bus),
        "push": partial(_push, bus),
        "arrays": partial(_arrays, bus),
        "hold": partial(_hold, bus),
    }


def _sequential(bus: zbus.Peer, seconds: float) -> dict[str, Any]:
    def ask() -> None:
        bus.request("echo", BODY, timeout=_TIMEOUT_S)

    for _ in range(WARM_UP):
        ask()
    return round_trips(ask, seconds)


def _pipelined(bus: zbus.Peer, seconds: float, width: int, topics: int = 0) -> dict[str, float]:
    names = [f"topic.{number}" for number in range(topics)] or ["echo"]
    place = 0

    def begin() -> Any:
        nonlocal place
        place = (place + 1) % len(names)
        return bus.submit(names[place], BODY, timeout=_TIMEOUT_S)

    return windowed(
        begin, lambda future: future.result(), width, seconds, lambda future: future.done()
    )


def _push(bus: zbus.Peer, seconds: float) -> dict[str, float]:
    sent, began = 0, time.monotonic()
    end = began + seconds
    while time.monotonic() < end:
        try:
            bus.push("sink", BODY)
            sent += 1
        except Backpressure as error:
            bus.flush(timeout=max(error.retry_after_s, _LEAST_S))
    left = bus.flush(timeout=_TIMEOUT_S)
    return {"sent": sent, "began": began, "left": left}


def _arrays(bus: zbus.Peer, size: int, times: int) -> dict[str, Any]:
    import numpy as np

    array = np.zeros(size, np.uint8)
    took = []
    for _ in range(times):
        began = time.perf_counter()
        reply = bus.request("size", array, timeout=_TIMEOUT_S)
        took.append(time.perf_counter() - began)
        assert reply == size, reply
    return {"seconds": took}


def _hold(bus: zbus.Peer, count: int) -> dict[str, int]:
    """Have so many requests open, and leave them so."""
    held = [bus.submit("hold", None, timeout=_LONG_S) for _ in range(count)]
    _kept.append(held)
    bus.request("echo", None, timeout=_TIMEOUT_S)
    return {"open": sum(not future.done() for future in held)}


# -- asyncio -----------------------------------------------------------------------------------


def _async(address: dict[str, str]) -> dict[str, Callable[..., Any]]:
    loop = asyncio.new_event_loop()

    async def attach() -> zbus.aio.Peer:
        bus = await zbus.aio.connect(address["frontend"], _name(), timeout=_START_S)
        await bus.wait_served("echo", timeout=_START_S)
        return bus

    bus = loop.run_until_complete(attach())
    _kept.append(bus)

    async def ask() -> None:
        await bus.request("echo", BODY, timeout=_TIMEOUT_S)

    async def sequential(seconds: float) -> Any:
        for _ in range(WARM_UP):
            await ask()
        return await awaited_round_trips(ask, seconds)

    async def pipelined(seconds: float, width: int) -> Any:
        return await awaited_windowed(ask, width, seconds)

    return looped({"sequential": sequential, "pipelined": pipelined}, loop)


_kept: list[Any] = []
"""What lives as long as the process."""

if __name__ == "__main__":
    main()
    os._exit(0)
