"""The limit: an echo over libzmq's own C proxy, with pyzmq's multipart calls and opaque bytes.

Three processes, as for zbus: a client (whoever calls), ``zmq.proxy`` in the middle, an echoing
server. No ids, no deadlines, no handlers; nothing over ZeroMQ can be much faster.
"""

from __future__ import annotations

import multiprocessing as mp
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

__all__ = ["sequential"]


def _proxy(frontend: str, backend: str) -> None:
    context = zmq.Context()
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    front.bind(frontend)
    back.bind(backend)
    zmq.proxy(front, back)


def _server(backend: str) -> None:
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(backend)
    while True:
        socket.send_multipart(socket.recv_multipart())


@contextmanager
def _running(frontend: str, backend: str) -> Iterator[None]:
    spawn = mp.get_context("spawn")
    processes = [
        spawn.Process(target=_proxy, args=(frontend, backend), daemon=True),
        spawn.Process(target=_server, args=(backend,), daemon=True),
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


@contextmanager
def sequential(place: Path, body: bytes) -> Iterator[Iterator[float]]:
    """An endless iterator of round-trip seconds, one request at a time."""
    frontend, backend = f"ipc://{place}/bare-front", f"ipc://{place}/bare-back"
    with _running(frontend, backend):
        context = zmq.Context()
        socket = context.socket(zmq.DEALER)
        socket.connect(frontend)
        try:
            yield _round_trips(socket, body)
        finally:
            socket.close(0)
            context.term()


def _round_trips(socket: zmq.Socket[bytes], body: bytes) -> Iterator[float]:
    while True:
        began = time.perf_counter()
        socket.send_multipart([body])
        socket.recv_multipart()
        yield time.perf_counter() - began
