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
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import zmq
from zmq.backend import Context, Socket, zmq_poll

from zbus.errors import ClosedError, ConfigError
from zbus.protocol.limits import FRAMES_MAX, INLINE_MAX_BYTES
from zbus.transport.address import OwnPath, check_address, check_vacant, refusal
from zbus.transport.bell import Bell
from zbus.transport.port import Frame, Received, Sent
from zbus.transport.profile import SocketProfile

__all__ = ["ZmqNetwork", "ZmqPort"]

_LAST = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_IN = int(zmq.POLLIN)
_OUT = int(zmq.POLLOUT)
_BOUND = frozenset({int(zmq.ROUTER), int(zmq.PULL)})
_GONE = frozenset({int(zmq.EHOSTUNREACH), int(zmq.ENOTSOCK), int(zmq.ETERM)})
_ASK_MAX = 3
"""Messages after which ``drain`` asks whether there is another; then it takes until refused."""
_SKIP_MAX = 4_096
"""Frames of an overlong message that one ``drain`` throws away; the next goes on from there."""
_PROFILE = SocketProfile()


class ZmqPort:
    """A port of a ``ZmqNetwork``, which makes it."""

    __slots__ = (
        "_alone",
        "_network",
        "_pushes",
        "_recv",
        "_routed",
        "_send",
        "_skipping",
        "descriptor",
        "endpoint",
        "full",
        "paths",
        "quiet",
        "socket",
    )

    def __init__(
        self, network: ZmqNetwork, socket: Socket, endpoint: str, paths: Sequence[OwnPath]
    ) -> None:
        self._network = network
        self._send = socket.send
        self._recv = socket.recv
        self._routed = socket.get(zmq.TYPE) == zmq.ROUTER
        self._pushes = socket.get(zmq.TYPE) == zmq.PUSH
        self._alone = [(socket, _IN)]
        self._skipping = False
        self.socket = socket
        self.paths = paths
        self.endpoint = endpoint
        self.descriptor = int(socket.get(zmq.FD))
        self.full = False
        self.quiet = False

    @property
    def routed(self) -> bool:
        """Whether messages come and go with a routing id."""
        return self._routed

    # -- sending ---------------------------------------------------------------------------

    def send(self, peer: bytes, frames: Sequence[Frame]) -> Sent:
        """See ``Port``. A frame that came from a port goes on without being copied."""
        if not frames:
            raise ValueError("a message has at least one frame")
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
        if self.quiet or limit < 1 or self._pushes:
            self.quiet = False
            return received
        try:
            self._drain(received, limit)
        except zmq.Again:
            pass
        except zmq.ZMQError as error:
            if error.errno not in _GONE:
                self.close()
                raise
        except BaseException:
            self.close()
            raise
        return received

    def _drain(self, received: list[Received], limit: int) -> None:
        recv = self._recv
        routed = self._routed
        if self._skipping:
            self._skip()
        while not self._skipping:
            # The routing id is ZeroMQ's own, so a frame always follows it. The frame itself
            # tells whether another follows; asking the socket for that costs twice as much.
            peer = recv(_LAST) if routed else b""
            frame = recv(_LAST, False)
            received.append((peer, self._rest(frame) if frame.more else [_owned(frame)]))
            count = len(received)
            if count >= limit or (count <= _ASK_MAX and not zmq_poll(self._alone, 0)):
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

    def close(self) -> None:
        """See ``Port``. Safe after fork: the child touches nothing that is the parent's."""
        self._network.forget(self)


class ZmqNetwork:
    """A ``Network`` with a ZeroMQ context of its own; two of them share nothing."""

    def __init__(self, profile: SocketProfile = _PROFILE) -> None:
        self._profile = profile
        self._context = Context()
        self._pid = os.getpid()
        self._closed = False
        self._bell = Bell()
        # Replaced, never changed: wait() reads it in another thread.
        self._ports: tuple[ZmqPort, ...] = ()
        self._watch: list[tuple[Socket, int]] | None = None

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
            socket = Socket(self._context, kind)
        except zmq.ZMQError as error:
            raise refusal(endpoints[0], error.errno or 0) from None
        paths: list[OwnPath] = []
        try:
            for option, value in _options(self._profile, kind):
                socket.set(option, value)
            attach = _bind if kind in _BOUND else _connect
            real = [attach(socket, endpoint, paths) for endpoint in endpoints]
            port = ZmqPort(self, socket, real[0], paths)
        except BaseException:
            _close(socket, paths)
            raise
        self._bell.watch(port.descriptor)
        self._ports += (port,)
        self._watch = None
        return port

    def forget(self, port: ZmqPort, linger_ms: int = 0) -> None:
        """Close this port, if it is open. For ``ZmqPort.close``."""
        if port not in self._ports:
            return
        self._ports = tuple(other for other in self._ports if other is not port)
        self._watch = None
        if os.getpid() != self._pid:
            return
        self._bell.ignore(port.descriptor)
        _close(port.socket, port.paths, linger_ms)

    def port_is_full(self, port: ZmqPort) -> None:
        """A send found no room. For ``ZmqPort.send``. A ROUTER always has room for somebody, so
        its events would tell nothing."""
        if not port.routed:
            port.full = True
            self._watch = None

    # -- sleeping --------------------------------------------------------------------------

    def readable(self) -> bool:
        """See ``Network``. Looks at every socket's events, so that an edge of its descriptor
        that a send or a drain swallowed is not lost; and notes which ports have nothing, to
        spare the next drain of each the asking."""
        watch = self._watch if self._watch is not None else self._rewatch()
        if not watch:
            return False
        ready = dict(zmq_poll(watch, 0))
        for port in self._ports:
            events = ready.get(port.socket, 0)
            port.quiet = not events & _IN
            if events & _OUT:
                port.full = False
                self._watch = None
        return bool(ready)

    def _rewatch(self) -> list[tuple[Socket, int]]:
        """What ``readable`` looks for: messages, and room where there was none."""
        self._watch = [(port.socket, _IN | _OUT if port.full else _IN) for port in self._ports]
        return self._watch

    def wait(self, timeout_s: float | None) -> None:
        """See ``Network``. Takes back what ``readable`` noted of the ports that rang. Only it
        makes such notes: a new connection's first message rings nothing until somebody looked."""
        if self._closed:
            raise ClosedError("this network is closed")
        rung = self._bell.sleep(timeout_s)
        for port in self._ports:
            if port.descriptor in rung:
                port.quiet = False

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
            self._context.term()
        self._bell.close()


def _options(profile: SocketProfile, kind: int) -> list[tuple[int, int]]:
    """Every option of this kind of socket; they work only before bind or connect."""
    every: list[tuple[int, int]] = [
        (zmq.LINGER, 0),  # the bus waits for receipts; closing never waits for a socket
        (zmq.HEARTBEAT_IVL, 0),  # else a process that stalls at its receive mark is aborted
        (zmq.SNDHWM, profile.send_mark),
        (zmq.RCVHWM, profile.receive_mark),
        (zmq.HANDSHAKE_IVL, profile.handshake_ms),
        (zmq.TCP_KEEPALIVE, 1),
        (zmq.TCP_KEEPALIVE_IDLE, profile.keepalive_idle_s),
        (zmq.TCP_KEEPALIVE_INTVL, profile.keepalive_every_s),
        (zmq.TCP_KEEPALIVE_CNT, profile.keepalive_count),
        (zmq.TCP_MAXRT, profile.unanswered_ms),
        (zmq.IPV6, int(profile.ipv6)),
    ]
    if kind in _BOUND:
        # Where peers come in. What a broker passes on to a peer, it has let in by this.
        every.append((zmq.MAXMSGSIZE, profile.frame_max_bytes))
        every.append((zmq.BACKLOG, profile.backlog))
    else:
        every.append((zmq.IMMEDIATE, 1))  # FULL while nobody is connected, no queue into nothing
        every.append((zmq.CONNECT_TIMEOUT, profile.connect_ms))
        every.append((zmq.RECONNECT_IVL, profile.reconnect_ms))
        every.append((zmq.RECONNECT_IVL_MAX, profile.reconnect_max_ms))
    if kind == zmq.ROUTER:
        every.append((zmq.ROUTER_MANDATORY, 1))  # else what cannot be routed is thrown away
        every.append((zmq.ROUTER_HANDOVER, 0))  # else a peer can take another's routing id
    return every


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


def _close(socket: Socket, paths: Sequence[OwnPath], linger_ms: int = 0) -> None:
    for path in paths:
        path.unlink()
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
