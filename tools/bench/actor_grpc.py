"""GRPC without protobuf, nothing in the middle: ``actor_grpc.py server|client ADDRESS``.

ADDRESS has ``target``, host and port. Pushes are one stream of messages, its best way to send
many; bodies are bytes as they are.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from orders import BODY, WARM_UP, Tally, obey, round_trips, windowed

_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
_THREADS = 16
_TIMEOUT_S = 60.0


def main() -> None:
    """Be what the command line says."""
    role, address = sys.argv[1], json.loads(sys.argv[2])
    obey({"server": _server, "client": _client}[role](address["target"]))


def _server(target: str) -> dict[str, Callable[..., Any]]:
    tally = Tally()

    def sink(bodies: Iterator[bytes], _context: Any) -> bytes:
        for body in bodies:
            tally.note(body)
        return b""

    handlers = {
        "echo": grpc.unary_unary_rpc_method_handler(lambda body, context: body),
        "size": grpc.unary_unary_rpc_method_handler(lambda body, context: b"%d" % len(body)),
        "sink": grpc.stream_unary_rpc_method_handler(sink),
    }
    server = grpc.server(ThreadPoolExecutor(_THREADS), options=_OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", handlers),))
    server.add_insecure_port(target)
    server.start()
    _kept.append(server)
    return {"counted": tally.told}


def _client(target: str) -> dict[str, Callable[..., Any]]:
    channel = grpc.insecure_channel(target, options=_OPTIONS)
    grpc.channel_ready_future(channel).result(_TIMEOUT_S)
    echo = channel.unary_unary("/bench/echo")
    _kept.append(channel)
    return {
        "sequential": partial(_sequential, echo),
        "pipelined": partial(_pipelined, echo),
        "push": partial(_push, channel.stream_unary("/bench/sink")),
        "arrays": partial(_arrays, channel.unary_unary("/bench/size")),
    }


def _sequential(echo: Any, seconds: float) -> dict[str, Any]:
    for _ in range(WARM_UP):
        echo(BODY)
    return round_trips(lambda: echo(BODY, timeout=_TIMEOUT_S), seconds)


def _pipelined(echo: Any, seconds: float, width: int) -> dict[str, float]:
    def begin() -> Any:
        return echo.future(BODY, timeout=_TIMEOUT_S)

    return windowed(
        begin, lambda future: future.result(), width, seconds, lambda future: future.done()
    )


def _push(sink: Any, seconds: float) -> dict[str, float]:
    sent, began = 0, time.monotonic()
    end = began + seconds

    def bodies() -> Iterator[bytes]:
        nonlocal sent
        while time.monotonic() < end:
            sent += 1
            yield BODY

    sink(bodies())
    return {"sent": sent, "began": began, "left": 0}


def _arrays(size_of: Any, size: int, times: int) -> dict[str, Any]:
    array, took = bytes(size), []
    for _ in range(times):
        began = time.perf_counter()
        reply = size_of(array, timeout=_TIMEOUT_S)
        took.append(time.perf_counter() - began)
        assert reply == b"%d" % size
    return {"seconds": took}


_kept: list[Any] = []
"""What lives as long as the process."""

if __name__ == "__main__":
    main()
