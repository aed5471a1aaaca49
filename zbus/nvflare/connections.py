"""F3 connections over ZeroMQ: ROUTER listens, DEALER connects, and one thread turns each socket.

Rules of this room:

* A message is a kind and a body: hello, welcome, frame, ping, bye. Anything else, and a frame
  whose length is not what its prefix says, is refused: that connection is closed.
* ZeroMQ hides who has gone, so this room finds out: a DEALER from its socket's monitor, a ROUTER
  from a ping that has no route any more. Silent hosts are found by ZeroMQ's own heartbeats, in
  C, so that a peer whose interpreter is busy is no lost peer.
* A send waits for room, for ``send_s`` seconds at most; then its connection is closed, so that
  nobody gets half of what was meant. The thread of the socket itself never waits.
* Nothing here connects again: nvflare does, with its own back-off.
"""

from __future__ import annotations

import os
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import zmq
from nvflare.fuel.f3.comm_error import CommError
from nvflare.fuel.f3.connection import Connection
from nvflare.fuel.f3.drivers.driver_params import DriverParams
from zmq.utils.monitor import recv_monitor_message

__all__ = ["Dialer", "Keeper", "Line", "Listener", "Pace", "ZmqConnection"]

_HELLO, _WELCOME, _FRAME, _PING, _BYE = b"H", b"W", b"F", b"P", b"B"
_PREFIX_BYTES = 16
_FRAME_MAX_BYTES = 2**31 - 2**21
"""nvflare's own bound."""
_OUTBOX_BYTES = 8_388_608
"""What may wait in one connection before a sender waits; a single frame always may."""
_MESSAGES_MAX = 64
"""What ZeroMQ queues for each direction of a connection: frames have up to a megabyte."""
_SLICE = 256
_STUCK_S = 0.005
_LINGER_MS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The times of a line, in seconds."""

    connect_s: float = 10.0
    ping_s: float = 0.5
    silence_s: float = 5.0
    send_s: float = 30.0


class Keeper(Protocol):
    """What a line tells of its connections; nvflare's BaseDriver."""

    def add_connection(self, conn: Any) -> None: ...
    def close_connection(self, conn: Any) -> None: ...


class ZmqConnection(Connection):
    """One peer. ``send_frame`` may be called from any thread."""

    def __init__(self, line: Line, route: bytes, addresses: tuple[str, str]) -> None:
        super().__init__(line.connector)
        self.route = route
        self.closing = False
        self._line = line
        self._addresses = addresses
        self._outbox: deque[bytes] = deque()
        self._bytes = 0
        self._room = threading.Condition()

    def get_conn_properties(self) -> dict[str, str]:
        """The addresses of both sides."""
        local, peer = self._addresses
        return {DriverParams.LOCAL_ADDR.value: local, DriverParams.PEER_ADDR.value: peer}

    def send_frame(self, frame: Any) -> None:
        """Queue a frame, once there is room.

        Raises:
            CommError: CLOSED, or TIMEOUT, after which it is closed, too.
        """
        taken = bytes(frame)
        deadline = time.monotonic() + self._line.pace.send_s
        with self._room:
            while self._is_full(len(taken)) and not self.closing:
                left_s = 0.0 if self._line.is_own_thread else deadline - time.monotonic()
                if left_s <= 0:
                    self.close()
                    raise CommError(CommError.TIMEOUT, f"{self.name} did not take a frame in time")
                self._room.wait(left_s)
            if self.closing:
                raise CommError(CommError.CLOSED, f"connection {self.name} is closed")
            self._outbox.append(taken)
            self._bytes += len(taken)
        self._line.wake()

    def close(self) -> None:
        """End it; whoever waits for room is told."""
        with self._room:
            self.closing = True
            self._room.notify_all()
        self._line.wake()

    def flush(self, send: Callable[[bytes], bool]) -> bool:
        """Give what waits to ``send`` until it says no; whether nothing is left."""
        while self._outbox:
            if not send(self._outbox[0]):
                return False
            with self._room:
                self._bytes -= len(self._outbox.popleft())
                self._room.notify_all()
        return True

    def _is_full(self, size: int) -> bool:
        return bool(self._outbox) and self._bytes + size > _OUTBOX_BYTES


class Line:
    """A socket, its connections, and the loop that turns them in the thread that calls ``turn``."""

    def __init__(self, keeper: Keeper, connector: Any, pace: Pace) -> None:
        self.connector = connector
        self.pace = pace
        self.connections: dict[bytes, ZmqConnection] = {}
        self._keeper = keeper
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._bell_lock = threading.Lock()
        self._thread = 0
        self._ended = False
        self._socket: zmq.Socket[bytes]

    @property
    def is_own_thread(self) -> bool:
        """Whether the caller is the thread of the loop."""
        return threading.get_ident() == self._thread

    def wake(self) -> None:
        """Have the loop look again, from any thread."""
        with self._bell_lock:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def end(self) -> None:
        """Have ``turn`` return, from any thread."""
        self._ended = True
        self.wake()

    def turn(self, endpoint: str) -> None:
        """Open the socket, and serve it until ``end`` or until there is nothing left to serve.

        Raises:
            CommError: the socket could not be opened, or the other side is not there.
        """
        self._thread = threading.get_ident()
        context = zmq.Context()
        try:
            self._open(context, endpoint)
            with self._socket:
                self._serve()
        except zmq.ZMQError as error:
            raise CommError(CommError.ERROR, f"{endpoint}: {error}") from error
        finally:
            for connection in list(self.connections.values()):
                self._forget(connection)
            context.destroy(_LINGER_MS)
            with self._bell_lock:
                os.close(self._bell)
                self._bell = -1

    @abstractmethod
    def _open(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None: ...

    @abstractmethod
    def _watch(self, poller: zmq.Poller) -> None: ...

    @abstractmethod
    def _look(self, now: float) -> None: ...

    @abstractmethod
    def _heard(self, route: bytes, kind: bytes, frame: zmq.Frame) -> None: ...

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._bell, zmq.POLLIN)
        self._watch(poller)
        is_flushed = True
        while not self._ended:
            poller.poll(int((self.pace.ping_s / 2 if is_flushed else _STUCK_S) * 1_000))
            with suppress(BlockingIOError):
                os.eventfd_read(self._bell)
            self._receive()
            flushed = [self._flush(each) for each in list(self.connections.values())]
            is_flushed = all(flushed)
            self._look(time.monotonic())
        for connection in list(self.connections.values()):
            self._flush(connection)
            self._say(connection.route, _BYE)

    def _receive(self) -> None:
        for _ in range(_SLICE):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._hear(parts)
        self.wake()

    def _hear(self, parts: list[zmq.Frame]) -> None:
        route = parts.pop(0).bytes if self._socket.type == zmq.ROUTER else b""
        connection = self.connections.get(route)
        if len(parts) != 2:
            self._refuse(route, connection)
            return
        kind, frame = parts[0].bytes, parts[1]
        if kind == _FRAME and connection is not None and _is_whole(frame):
            connection.process_frame(frame.bytes)
        elif kind == _BYE:
            self._forget(connection)
        elif kind in (_HELLO, _WELCOME):
            self._heard(route, kind, frame)
        elif kind != _PING:
            self._refuse(route, connection)

    def _refuse(self, route: bytes, connection: ZmqConnection | None) -> None:
        self._say(route, _BYE)
        self._forget(connection)

    def _add(self, route: bytes, peer: str) -> None:
        local = str(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))
        connection = ZmqConnection(self, route, (local, peer))
        self.connections[route] = connection
        self._keeper.add_connection(connection)

    def _forget(self, connection: ZmqConnection | None) -> None:
        if connection is not None and connection.route in self.connections:
            del self.connections[connection.route]
            connection.close()
            self._keeper.close_connection(connection)

    def _flush(self, connection: ZmqConnection) -> bool:
        if connection.closing:
            self._refuse(connection.route, connection)
            return True
        try:
            return connection.flush(lambda frame: self._send(connection.route, _FRAME, frame))
        except zmq.ZMQError:
            self._forget(connection)
            return True

    def _send(self, route: bytes, kind: bytes, body: bytes = b"") -> bool:
        """Whether there was room; raises where there is nobody."""
        head = [route, kind] if self._socket.type == zmq.ROUTER else [kind]
        try:
            self._socket.send_multipart([*head, body], zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _say(self, route: bytes, kind: bytes) -> None:
        with suppress(zmq.ZMQError):
            self._send(route, kind)

    def _tune(self, socket: zmq.Socket[bytes]) -> None:
        socket.set_hwm(_MESSAGES_MAX)
        socket.setsockopt(zmq.LINGER, _LINGER_MS)
        socket.setsockopt(zmq.MAXMSGSIZE, _FRAME_MAX_BYTES)
        socket.setsockopt(zmq.HEARTBEAT_IVL, int(self.pace.silence_s / 3 * 1_000))
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(self.pace.silence_s * 1_000))
        socket.setsockopt(zmq.HEARTBEAT_TTL, int(self.pace.silence_s * 1_000))
        self._socket = socket


class Listener(Line):
    """A ROUTER, with a connection for each peer that said hello."""

    def _open(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self._tune(context.socket(zmq.ROUTER))
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.bind(endpoint)
        self._ping_at = time.monotonic()

    def _watch(self, poller: zmq.Poller) -> None:
        return

    def _heard(self, route: bytes, kind: bytes, frame: zmq.Frame) -> None:
        if kind == _HELLO and route not in self.connections:
            self._say(route, _WELCOME)
            self._add(route, str(frame.get("Peer-Address")))

    def _look(self, now: float) -> None:
        if now < self._ping_at:
            return
        self._ping_at = now + self.pace.ping_s
        for connection in list(self.connections.values()):
            try:
                self._send(connection.route, _PING)
            except zmq.ZMQError:
                self._forget(connection)


class Dialer(Line):
    """A DEALER, with the one connection that it is for; ``turn`` returns when that has ended."""

    def _open(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self._endpoint = endpoint
        self._tune(context.socket(zmq.DEALER))
        self._socket.setsockopt(zmq.RECONNECT_IVL, -1)
        events = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_CONNECT_RETRIED
        self._monitor = self._socket.get_monitor_socket(events)
        self._socket.connect(endpoint)
        self._say(b"", _HELLO)
        self._patience = time.monotonic() + self.pace.connect_s
        self._was_welcome = False

    def _watch(self, poller: zmq.Poller) -> None:
        poller.register(self._monitor, zmq.POLLIN)

    def _heard(self, route: bytes, kind: bytes, frame: zmq.Frame) -> None:
        if kind == _WELCOME and not self._was_welcome:
            self._was_welcome = True
            self._add(route, self._endpoint)

    def _look(self, now: float) -> None:
        is_lost = self._monitor.poll(0) != 0
        if is_lost:
            recv_monitor_message(self._monitor)
            self._forget(self.connections.get(b""))
        if self._was_welcome:
            self._ended = self._ended or not self.connections
        elif is_lost or now >= self._patience:
            raise CommError(CommError.CLOSED, f"nobody answers at {self._endpoint}")


def _is_whole(frame: zmq.Frame) -> bool:
    """Whether these are as many bytes as the prefix says."""
    view = frame.buffer
    return len(view) >= _PREFIX_BYTES and int.from_bytes(view[:4], "big") == len(view)
