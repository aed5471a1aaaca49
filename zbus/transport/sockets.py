"""Ports over ZeroMQ: the only room of the data path that knows zmq.

Rules of this room:

* Nothing here waits but ``wait``, and ``wait`` touches descriptors only, no socket. So one
  thread may sleep in it while another, under the owner's lock, uses the ports.
* Where a message ends is what ZeroMQ says, never what the header says: a sender that lies about
  its frames must not shift the next sender's message by one frame and speak under its routing id.
* A port that was interrupted between two frames (a signal's handler raised) is out of step with
  its stream. It closes itself, which is a lost connection and nothing worse.
* Calls go to ``zmq.backend`` with plain int flags, and the answer "nothing there" is asked for
  and not provoked: an ``Again`` costs three microseconds, as much as the rest of a lone message.
* A port is *quiet* once it was asked and had nothing, until it is touched or its descriptor
  rings. Whoever touches a socket may swallow its edge, so it is asked again before a sleep; one
  that nobody touched is not, because to ask is two system calls.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import zmq
from zmq.backend import Context, Socket

from zbus.errors import ClosedError, ConfigError
from zbus.protocol.limits import FRAMES_MAX, INLINE_MAX_BYTES
from zbus.transport.address import OwnPath, check_address, check_vacant, refusal
from zbus.transport.bell import Bell
from zbus.transport.guard import Gate, Users, Watch
from zbus.transport.monitor import Monitor
from zbus.transport.port import Frame, Received, Sent
from zbus.transport.profile import BOUND, SocketProfile, options_of

__all__ = ["ZmqNetwork", "ZmqPort"]

_LAST = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_IN = int(zmq.POLLIN)
_OUT = int(zmq.POLLOUT)
_EVENTS = int(zmq.EVENTS)
_GONE = frozenset({int(zmq.EHOSTUNREACH), int(zmq.ENOTSOCK), int(zmq.ETERM)})
_ASK_MAX = 3
"""Messages after which ``drain`` asks whether there is another; then it takes until refused."""
_ZERO_COPY_RECV = 10
"""Off: else each small frame that is kept holds the 18 KiB that its connection reads into."""
_SKIP_MAX = 4_096
"""Frames of an overlong message that one ``drain`` throws away; the next goes on from there."""
_PROFILE = SocketProfile()


class ZmqPort:
    """A port of a ``ZmqNetwork``, which makes it."""

    __slots__ = (
        "_get",
        "_network",
        "_pushes",
        "_recv",
        "_routed",
        "_send",
        "_skipping",
        "descriptor",
        "endpoint",
        "full",
        "monitor",
        "paths",
        "quiet",
        "socket",
        "users",
        "watch",
    )

    def __init__(
        self,
        network: ZmqNetwork,
        socket: Socket,
        endpoint: str,
        paths: Sequence[OwnPath],
        watch: Watch | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        self._network = network
        self._send = socket.send
        self._recv = socket.recv
        self._routed = socket.get(zmq.TYPE) == zmq.ROUTER
        self._pushes = socket.get(zmq.TYPE) == zmq.PUSH
        self._get = socket.get
        self._skipping = False
        self.socket = socket
        self.paths = paths
        self.endpoint = endpoint
        self.descriptor = int(socket.get(zmq.FD))
        self.full = False
        self.quiet = False
        self.watch = watch
        self.monitor = monitor
        self.users = None if monitor is None else Users()

    @property
    def routed(self) -> bool:
        """Whether messages come and go with a routing id."""
        return self._routed

    # -- sending ---------------------------------------------------------------------------

    def send(self, peer: bytes, frames: Sequence[Frame]) -> Sent:
        """See ``Port``. A frame that came from a port goes on without being copied."""
        if not frames:
            raise ValueError("a message has at least one frame")
        self.quiet = False
        try:
            if self._routed:
                self._send(peer, _MORE)
            if len(frames) == 1:
                self._send(frames[0], _LAST)
            else:
                self._send_all(frames)
        except zmq.ZMQError as error:
            return self._refused(error)
        except BaseException:
            self.close()
            raise
        return Sent.SENT

    def _send_all(self, frames: Sequence[Frame]) -> None:
        last = len(frames) - 1
        for index, frame in enumerate(frames):
            try:
                self._send(_unshared(frame), _MORE if index < last else _LAST)
            except zmq.Again:
                if 0 < index < last:
                    # The connection ended under the message, which is lost whole. ZeroMQ now
                    # swallows frames up to the end of a message; this is the end, without which
                    # it would swallow the next message.
                    self._send(b"", _LAST)
                raise

    def _refused(self, error: zmq.ZMQError) -> Sent:
        if error.errno == errno.EAGAIN:
            self._network.port_is_full(self)
            return Sent.FULL
        if error.errno in _GONE:
            return Sent.GONE
        self.close()
        raise error

    # -- receiving -------------------------------------------------------------------------

    def drain(self, limit: int) -> list[Received]:
        """See ``Port``. A message of too many frames comes as one of none, which no decoder
        takes. A frame longer than ``INLINE_MAX_BYTES`` is a view of where ZeroMQ put it."""
        received: list[Received] = []
        if (watch := self.watch) is not None:
            watch.hear()
            if not watch.is_open:
                self._network.unwatch(self)
        if self.quiet or limit < 1 or self._pushes:
            return received
        try:
            self._drain(received, limit)
        except zmq.Again:
            self.quiet = True
        except zmq.ZMQError as error:
            if error.errno not in _GONE:
                self.close()
                raise
        except BaseException:
            self.close()
            raise
        return received

    def events(self) -> int:
        """What the socket is ready for, asked now; notes whether it is quiet."""
        events = int(self._get(_EVENTS))
        self.quiet = not events & _IN
        return events

    def _drain(self, received: list[Received], limit: int) -> None:
        recv = self._recv
        routed = self._routed
        users = self.users
        if self._skipping:
            self._skip()
        while not self._skipping:
            # The routing id is ZeroMQ's own, so a frame always follows it. The frame itself
            # tells whether another follows; asking the socket for that costs twice as much.
            peer = recv(_LAST) if routed else b""
            frame = recv(_LAST, False)
            if users is not None and peer not in users.heard:
                users.note(peer, frame)
            received.append((peer, self._rest(frame) if frame.more else [_owned(frame)]))
            count = len(received)
            if count >= limit or (count <= _ASK_MAX and not self.events() & _IN):
                return

    def _rest(self, frame: zmq.Frame) -> list[Frame]:
        frames = [_owned(frame)]
        while frame.more:
            frame = self._recv(_LAST, False)
            if len(frames) > FRAMES_MAX:
                self._skipping = frame.more
                self._skip()
                return []
            frames.append(_owned(frame))
        return frames

    def _skip(self) -> None:
        for _ in range(_SKIP_MAX):
            if not self._skipping:
                return
            self._skipping = self._recv(_LAST, False).more

    def user(self, peer: bytes) -> str:
        """See ``Port``."""
        return self.users.of(peer) if self.users is not None and self._routed else ""

    def close(self) -> None:
        """See ``Port``. Safe after fork: the child touches nothing that is the parent's."""
        self._network.forget(self)


class ZmqNetwork:
    """A ``Network`` with a ZeroMQ context of its own; two of them share nothing. ``gate`` is the
    security of its sockets."""

    def __init__(self, profile: SocketProfile = _PROFILE, gate: Gate | None = None) -> None:
        self._profile = profile
        self.gate = gate or Gate()
        self.context = Context()
        self.context.set(_ZERO_COPY_RECV, 0)
        self._pid = os.getpid()
        self._closed = False
        self._bell = Bell()
        self._ports: tuple[ZmqPort, ...] = ()  # replaced, never changed: wait() reads it

    # -- ports -----------------------------------------------------------------------------

    def bind_router(self, *endpoints: str) -> ZmqPort:
        return self._open(zmq.ROUTER, endpoints)

    def bind_pull(self, *endpoints: str) -> ZmqPort:
        return self._open(zmq.PULL, endpoints)

    def connect_dealer(self, endpoint: str) -> ZmqPort:
        return self._open(zmq.DEALER, (endpoint,))

    def connect_push(self, endpoint: str) -> ZmqPort:
        return self._open(zmq.PUSH, (endpoint,))

    def _open(self, kind: int, endpoints: Sequence[str]) -> ZmqPort:
        if self._closed:
            raise ClosedError("this network is closed")
        if not endpoints:
            raise ConfigError("a port that binds needs an endpoint, and none was given")
        try:
            socket = Socket(self.context, kind)
        except zmq.ZMQError as error:
            raise refusal(endpoints[0], error.errno or 0) from None
        paths: list[OwnPath] = []
        watch = self.gate.watch(self.context, socket, endpoints[0]) if kind == zmq.DEALER else None
        monitor = self.gate.monitor(self.context, socket) if kind in BOUND else None
        try:
            for option, value in options_of(self._profile, kind):
                socket.set(option, value)
            attach = _bind if kind in BOUND else _connect
            real: list[str] = []
            for endpoint in endpoints:
                self.gate.prepare(socket, endpoint)
                real.append(attach(socket, endpoint, paths))
            port = ZmqPort(self, socket, real[0], paths, watch, monitor)
        except BaseException:
            _close(socket, paths, ear=watch or monitor)
            raise
        if watch is not None:
            self._bell.watch(watch.descriptor)
        self._bell.watch(port.descriptor)
        self._ports += (port,)
        return port

    def forget(self, port: ZmqPort, linger_ms: int = 0) -> None:
        """Close this port, if it is open. For ``ZmqPort.close``."""
        if port not in self._ports:
            return
        self._ports = tuple(other for other in self._ports if other is not port)
        if os.getpid() != self._pid:
            return
        self.unwatch(port)
        self._bell.ignore(port.descriptor)
        _close(port.socket, port.paths, linger_ms, port.monitor)

    def unwatch(self, port: ZmqPort) -> None:
        """Its handshake is over: what the watch still says must end no sleep."""
        if port.watch is not None:
            self._bell.ignore(port.watch.descriptor)
            port.watch.close()
            port.watch = None

    def port_is_full(self, port: ZmqPort) -> None:
        """A send found no room. For ``ZmqPort.send``. A ROUTER always has room for somebody, so
        its events would tell nothing."""
        if not port.routed:
            port.full = True

    # -- sleeping --------------------------------------------------------------------------

    def readable(self) -> bool:
        """See ``Network``. Asks every port that is not quiet, so that an edge of its descriptor
        that a send or a drain swallowed is not lost; one that is quiet ends the next ``wait``."""
        ready = False
        for port in self._ports:
            if not port.quiet or port.full:
                events = port.events()
                if port.full and events & _OUT:
                    port.full = False
                    ready = True
                ready = ready or not port.quiet
        return ready

    def wait(self, timeout_s: float | None) -> bool:
        """See ``Network``. A port that rang is quiet no longer."""
        if self._closed:
            raise ClosedError("this network is closed")
        rung = self._bell.sleep(timeout_s)
        if rung:
            for port in self._ports:
                if port.descriptor in rung:
                    port.quiet = False
        return bool(rung)

    def watch(self, descriptor: int) -> None:
        """End a ``wait`` also when this can be read, until it is to be ignored again."""
        self._bell.watch(descriptor)

    def ignore(self, descriptor: int) -> None:
        self._bell.ignore(descriptor)

    def wake(self) -> None:
        """See ``Network``."""
        self._bell.ring()

    def close(self, linger_s: float = 0.0) -> None:
        """See ``Network``. Bounded by ``linger_s``, since every socket is closed. After fork the
        child only closes its copies of our own descriptors."""
        if self._closed:
            return
        self._closed = True
        for port in self._ports:
            self.forget(port, round(linger_s * 1_000))
        if os.getpid() == self._pid:
            self.context.term()
        self._bell.close()


def _bind(socket: Socket, endpoint: str, paths: list[OwnPath]) -> str:
    """Bind; the real endpoint, with the port that 0 came to. What was made joins ``paths``."""
    check_address(endpoint)
    check_vacant(endpoint)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise refusal(endpoint, error.errno or 0) from None
    if (path := OwnPath.of(endpoint)) is not None:
        paths.append(path)
    real = socket.get(zmq.LAST_ENDPOINT)
    return real.decode() if isinstance(real, bytes) else endpoint


def _connect(socket: Socket, endpoint: str, _paths: list[OwnPath]) -> str:
    check_address(endpoint)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise refusal(endpoint, error.errno or 0) from None
    return endpoint


def _close(
    socket: Socket, paths: Sequence[OwnPath], linger_ms: int = 0, ear: Watch | Monitor | None = None
) -> None:
    for path in paths:
        path.unlink()
    if ear is not None:
        ear.close()
    socket.close(linger_ms)


def _owned(frame: zmq.Frame) -> Frame:
    return frame.bytes if len(frame) <= INLINE_MAX_BYTES else frame.buffer


def _unshared(frame: Frame) -> Frame | zmq.Frame:
    """ZeroMQ's own frame where this is a view of a whole one: it goes on by reference. All else
    is copied, so that what its owner does to it after ``send`` does not show on the wire."""
    if type(frame) is memoryview:
        whole: object = frame.obj
        if isinstance(whole, zmq.Frame) and len(whole) == frame.nbytes:
            return whole
    return frame
