"""Redis lists as queues, batched by hand: ``actor_redis.py server|client ADDRESS``.

ADDRESS has ``path``, a unix socket. Whoever serves takes what waits in one round trip together
with its replies to what it took before; whoever asks sends what it may in one command. That is
what a careful user would write, for Redis has no requests of its own.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import redis
from orders import BODY, WARM_UP, Tally, obey, round_trips, until

_KEY_BYTES = 8
_BATCH = 255
_PUSH_BATCH = 100


def main() -> None:
    """Be what the command line says."""
    role, address = sys.argv[1], json.loads(sys.argv[2])
    obey({"server": _server, "client": _client}[role](address["path"]))


def _attached(path: str) -> Any:
    bus = redis.Redis(unix_socket_path=path, single_connection_client=True, socket_timeout=None)
    until(bus.ping, redis.ConnectionError)
    return bus


def _taken(bus: Any, queue: bytes, replies: dict[bytes, list[bytes]] | None = None) -> list[bytes]:
    """Say these replies, wait for something in the queue, and take all that is there."""
    trip = bus.pipeline(transaction=False)
    for key, bodies in (replies or {}).items():
        trip.rpush(key, *bodies)
    trip.blpop(queue, 0)
    trip.lpop(queue, _BATCH)
    (_, first), rest = trip.execute()[-2:]
    return [first, *(rest or ())]


def _server(path: str) -> dict[str, Callable[..., Any]]:
    tally = Tally()
    for act, *arguments in (
        (_answer, b"echo", lambda body: body),
        (_answer, b"size", lambda body: b"%d" % len(body)),
        (_take, tally),
    ):
        threading.Thread(target=act, args=(_attached(path), *arguments), daemon=True).start()
    return {"counted": tally.told}


def _answer(bus: Any, queue: bytes, handler: Callable[[bytes], bytes]) -> None:
    replies: dict[bytes, list[bytes]] = {}
    while True:
        taken = _taken(bus, queue, replies)
        replies = {}
        for item in taken:
            replies.setdefault(item[:_KEY_BYTES], []).append(handler(item[_KEY_BYTES:]))


def _take(bus: Any, tally: Tally) -> None:
    while True:
        for item in _taken(bus, b"sink"):
            tally.note(item)


def _client(path: str) -> dict[str, Callable[..., Any]]:
    bus, key = _attached(path), os.urandom(_KEY_BYTES)
    return {
        "sequential": partial(_sequential, bus, key),
        "pipelined": partial(_pipelined, bus, key),
        "push": partial(_push, bus),
        "arrays": partial(_arrays, bus, key),
    }


def _asked(bus: Any, key: bytes, queue: bytes, items: Sequence[bytes]) -> None:
    trip = bus.pipeline(transaction=False)
    trip.rpush(queue, *items)
    trip.blpop(key, 0)
    trip.execute()


def _sequential(bus: Any, key: bytes, seconds: float) -> dict[str, Any]:
    def ask() -> None:
        _asked(bus, key, b"echo", [key + BODY])

    for _ in range(WARM_UP):
        ask()
    return round_trips(ask, seconds)


def _pipelined(bus: Any, key: bytes, seconds: float, width: int) -> dict[str, float]:
    clock = time.perf_counter
    done, ready, began = 0, width, clock()
    end = began + seconds
    while clock() < end:
        bus.rpush(b"echo", *[key + BODY] * ready)
        ready = len(_taken(bus, key))
        done += ready
    took_s, open_now = clock() - began, width - ready
    while open_now:
        open_now -= len(_taken(bus, key))
    return {"done": done, "all": done + width - ready, "seconds": took_s}


def _push(bus: Any, seconds: float) -> dict[str, float]:
    sent, began = 0, time.monotonic()
    end = began + seconds
    while time.monotonic() < end:
        bus.rpush(b"sink", *[BODY] * _PUSH_BATCH)
        sent += _PUSH_BATCH
    return {"sent": sent, "began": began, "left": 0}


def _arrays(bus: Any, key: bytes, size: int, times: int) -> dict[str, Any]:
    array, took = bytes(size), []
    for _ in range(times):
        began = time.perf_counter()
        bus.rpush(b"size", key + array)
        reply = bus.blpop(key, 0)
        took.append(time.perf_counter() - began)
        assert reply[1] == b"%d" % size
    return {"seconds": took}


if __name__ == "__main__":
    main()
