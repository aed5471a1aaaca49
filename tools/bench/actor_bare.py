"""The limit: libzmq's own C proxies, with pyzmq's multipart calls and opaque bytes at the ends.

``actor_bare.py middle|server|client ADDRESS``; ADDRESS is JSON: an endpoint each for ``front``,
``back`` (requests), ``push`` and ``pull``. No ids, no deadlines, no handlers found by topic, no
encoding: nothing over ZeroMQ in Python can be much faster.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import zmq
from orders import BODY, WARM_UP, Tally, obey, round_trips, windowed

_CONTEXT: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
_SMALL_BYTES = 4_096
"""A longer request is answered by its size."""


def main() -> None:
    """Be what the command line says."""
    role, address = sys.argv[1], json.loads(sys.argv[2])
    obey({"middle": _middle, "server": _server, "client": _client}[role](address))


def _bound(kind: int, endpoint: str) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = _CONTEXT.socket(kind)
    socket.bind(endpoint)
    return socket


def _connected(kind: int, endpoint: str) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = _CONTEXT.socket(kind)
    socket.connect(endpoint)
    return socket


def _beside(act: Callable[..., object], *arguments: object) -> None:
    threading.Thread(target=act, args=arguments, daemon=True).start()


def _middle(address: dict[str, str]) -> dict[str, Callable[..., Any]]:
    pairs = (
        (_bound(zmq.ROUTER, address["front"]), _bound(zmq.DEALER, address["back"])),
        (_bound(zmq.PULL, address["push"]), _bound(zmq.PUSH, address["pull"])),
    )
    for pair in pairs:
        _beside(zmq.proxy, *pair)
    return {}


def _server(address: dict[str, str]) -> dict[str, Callable[..., Any]]:
    tally = Tally()
    _beside(_answer, _connected(zmq.DEALER, address["back"]))
    _beside(_take, _connected(zmq.PULL, address["pull"]), tally)
    return {"counted": tally.told}


def _answer(socket: zmq.Socket[bytes]) -> None:
    while True:
        *route, body = socket.recv_multipart()
        if len(body) > _SMALL_BYTES:
            body = b"%d" % len(body)
        socket.send_multipart([*route, body])


def _take(socket: zmq.Socket[bytes], tally: Tally) -> None:
    while True:
        tally.note(socket.recv_multipart()[0])


def _client(address: dict[str, str]) -> dict[str, Callable[..., Any]]:
    socket = _connected(zmq.DEALER, address["front"])
    pipe = _connected(zmq.PUSH, address["push"])
    socket.send_multipart([BODY])
    socket.recv_multipart()  # somebody answers
    return {
        "sequential": partial(_sequential, socket),
        "pipelined": partial(_pipelined, socket),
        "push": partial(_push, pipe),
        "arrays": partial(_arrays, socket),
    }


def _sequential(socket: zmq.Socket[bytes], seconds: float) -> dict[str, Any]:
    def ask() -> None:
        socket.send_multipart([BODY])
        socket.recv_multipart()

    for _ in range(WARM_UP):
        ask()
    return round_trips(ask, seconds)


def _pipelined(socket: zmq.Socket[bytes], seconds: float, width: int) -> dict[str, float]:
    return windowed(
        lambda: socket.send_multipart([BODY]), lambda _: socket.recv_multipart(), width, seconds
    )


def _push(socket: zmq.Socket[bytes], seconds: float) -> dict[str, float]:
    sent, began = 0, time.monotonic()
    end = began + seconds
    while time.monotonic() < end:
        socket.send_multipart([BODY])
        sent += 1
    return {"sent": sent, "began": began, "left": 0}


def _arrays(socket: zmq.Socket[bytes], size: int, times: int) -> dict[str, Any]:
    array = bytes(size)
    took = []
    for _ in range(times):
        began = time.perf_counter()
        socket.send_multipart([array])
        reply = socket.recv_multipart()
        took.append(time.perf_counter() - began)
        assert reply == [b"%d" % size], reply
    return {"seconds": took}


if __name__ == "__main__":
    main()
