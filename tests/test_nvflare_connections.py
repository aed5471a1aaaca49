"""F3 connections over ZeroMQ: frames, garbage, stuck peers and peers that go."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import zmq
from brokers import BOUND_S, leaving_nothing, until

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from nvflare.fuel.f3.comm_error import CommError
from nvflare.fuel.f3.connection import FrameReceiver

from zbus.nvflare.connections import Dialer, Line, Listener, Pace, ZmqConnection

pytestmark = pytest.mark.real

QUICK = Pace(connect_s=5.0, ping_s=0.05, silence_s=2.0, send_s=0.5)


class Side(FrameReceiver):
    """A line in a thread of its own, and what it told."""

    def __init__(self, kind: type[Line], endpoint: str) -> None:
        self.connections: list[ZmqConnection] = []
        self.closed: list[ZmqConnection] = []
        self.frames: list[bytes] = []
        self.errors: list[Exception] = []
        self.line = kind(self, SimpleNamespace(mode=None), QUICK)
        self.thread = threading.Thread(target=self._turn, args=(endpoint,), daemon=True)
        self.thread.start()

    def add_connection(self, conn: Any) -> None:
        conn.register_frame_receiver(self)
        self.connections.append(conn)

    def close_connection(self, conn: Any) -> None:
        self.closed.append(conn)

    def process_frame(self, frame: Any) -> None:
        self.frames.append(bytes(frame))

    def end(self) -> None:
        self.line.end()
        self.thread.join(BOUND_S)
        assert not self.thread.is_alive()

    def _turn(self, endpoint: str) -> None:
        try:
            self.line.turn(endpoint)
        except CommError as error:
            self.errors.append(error)


def frame(size: int) -> bytes:
    """A frame of nvflare's: its first four bytes are its length."""
    return size.to_bytes(4, "big") + secrets.token_bytes(size - 4)


def flood(connection: ZmqConnection, each: bytes) -> None:
    """More than any queue takes."""
    for _ in range(1_000):
        connection.send_frame(each)


@contextmanager
def listening() -> Iterator[tuple[Side, str, ExitStack]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as probe:
        port = probe.bind_to_random_port("tcp://127.0.0.1")
    endpoint = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        listener = Side(Listener, endpoint)
        stack.callback(listener.end)
        yield listener, endpoint, stack


@contextmanager
def pair() -> Iterator[tuple[Side, Side]]:
    with listening() as (listener, endpoint, stack):
        dialer = Side(Dialer, endpoint)
        stack.callback(dialer.end)
        until(lambda: dialer.connections and listener.connections, "they are connected")
        yield listener, dialer


@contextmanager
def stranger(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        yield socket


def test_frames_go_both_ways() -> None:
    """In order, small and large, and nothing is left at the end."""
    with leaving_nothing(), pair() as (listener, dialer):
        frames = [frame(size) for size in (16, 17, 1_000, 3_000_000, 16)]
        for each in frames:
            dialer.connections[0].send_frame(memoryview(each))
            listener.connections[0].send_frame(bytearray(each))
        until(lambda: len(listener.frames) == len(dialer.frames) == len(frames), "all came")
        assert listener.frames == dialer.frames == frames


@pytest.mark.parametrize("first", [0, 1])
def test_both_sides_learn_of_a_close(first: int) -> None:
    """Whoever closes: both are told once, and sending raises CLOSED."""
    with pair() as sides:
        sides[first].connections[0].close()
        for side in sides:
            until(lambda side=side: side.closed, "it was told")  # type: ignore[misc]
            assert side.closed == side.connections
            with pytest.raises(CommError) as caught:
                side.connections[0].send_frame(frame(16))
            assert caught.value.code == CommError.CLOSED
        sides[1].thread.join(BOUND_S)
        assert not sides[1].thread.is_alive(), "the dialer's turn returns"
        assert sides[0].thread.is_alive(), "the listener's goes on"


def test_who_goes_without_a_word_is_noticed() -> None:
    """The ping has no route any more."""
    with listening() as (listener, endpoint, _):
        with stranger(endpoint) as socket:
            socket.send_multipart([b"H", b""])
            until(lambda: listener.connections, "it said hello")
            assert socket.recv_multipart() == [b"W", b""]
        until(lambda: listener.closed, "it has gone")


def test_a_listener_that_goes_is_noticed() -> None:
    """The dialer's turn returns, so that nvflare connects again."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    dialer = Side(Dialer, f"tcp://127.0.0.1:{port}")
    route, *_ = router.recv_multipart()
    router.send_multipart([route, b"W", b""])
    until(lambda: dialer.connections, "it is connected")
    context.destroy(0)
    until(lambda: dialer.closed, "it has gone")
    dialer.end()
    assert dialer.errors == []


def test_nobody_there_is_an_error() -> None:
    """At once where the port is closed, so that nvflare's back-off counts."""
    dialer = Side(Dialer, "tcp://127.0.0.1:1")
    dialer.thread.join(BOUND_S)
    [error] = dialer.errors
    assert isinstance(error, CommError)
    assert error.code == CommError.CLOSED


def test_an_address_in_use_is_an_error() -> None:
    """It names the endpoint."""
    with listening() as (_, endpoint, stack):
        second = Side(Listener, endpoint)
        stack.callback(second.end)
        until(lambda: second.errors, "it failed")
        assert endpoint in str(second.errors[0])


@pytest.mark.parametrize(
    "garbage",
    [
        [b"F", b""],
        [b"F", b"short"],
        [b"F", frame(16)[:-1]],
        [b"F", frame(32) + b"x"],
        [b"?", b""],
        [b"F"],
        [b"F", frame(16), b"x"],
        [b""],
    ],
)
def test_garbage_costs_its_sender_the_connection(garbage: list[bytes]) -> None:
    """It is told goodbye; nothing reaches nvflare, and the others go on."""
    with listening() as (listener, endpoint, stack):
        with stranger(endpoint) as socket:
            socket.send_multipart([b"H", b""])
            assert socket.recv_multipart() == [b"W", b""]
            socket.send_multipart(garbage)
            until(lambda: listener.closed, "it was refused")
            while (answer := socket.recv_multipart()) == [b"P", b""]:
                pass
            assert answer == [b"B", b""]
        good = Side(Dialer, endpoint)
        stack.callback(good.end)
        until(lambda: good.connections, "another is welcome")
        good.connections[0].send_frame(frame(20))
        until(lambda: listener.frames, "its frame came")
        assert len(listener.frames) == 1


def test_frames_without_a_hello_are_refused() -> None:
    """A stranger's frame reaches nobody."""
    with listening() as (listener, endpoint, _), stranger(endpoint) as socket:
        socket.send_multipart([b"F", frame(20)])
        assert socket.recv_multipart() == [b"B", b""]
        assert listener.connections == []
        assert listener.frames == []


def test_a_send_is_bounded() -> None:
    """To a peer that does not read: TIMEOUT after the bound, and that closes the connection."""
    with listening() as (listener, endpoint, _), stranger(endpoint) as socket:
        socket.setsockopt(zmq.RCVHWM, 1)
        socket.send_multipart([b"H", b""])
        until(lambda: listener.connections, "it said hello")
        connection = listener.connections[0]
        big = frame(2_000_000)
        with pytest.raises(CommError) as caught:
            flood(connection, big)
        assert caught.value.code == CommError.TIMEOUT
        until(lambda: listener.closed, "it is closed")
