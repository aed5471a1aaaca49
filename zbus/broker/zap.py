"""Who may connect: our own authenticator, on the address that ZeroMQ asks (RFC 27, ZAP).

    mechanism  address            then
    CURVE      any                200 for a trusted key, 500 for a revoked one, 400 for any other
    NULL       ipc, user id       200 for our own user and root, 400 for any other
    NULL       tcp                200 on loopback where the operator said so, else 400

Rules of this room:

* It never raises: a question that it cannot judge is answered 300, which lets nobody in. 500 says
  "revoked" and nothing else, because ZeroMQ tells a peer that number and no text.
* Every door enforces its domain, so that while nobody answers here nobody is let in; without
  that, ZeroMQ would let everybody in (promise P16). ``is_alive`` is for whoever watches it, and
  ``start`` again begins another one.
* A connection's user id is the key that it has proved, and ``LOCAL`` where it proved none; a
  name is found for it when it says Hello, so that it follows every reload. ZeroMQ puts this id
  before any property of that name that a peer makes up.
* One thread, which owns its socket. ``table`` is replaced whole, never changed.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import zmq
from zmq.backend import Context, Socket
from zmq.utils import z85

from zbus.broker.keys import Trust
from zbus.errors import InternalError
from zbus.transport.guard import DOMAIN
from zbus.transport.port import LOCAL

__all__ = ["ADDRESS", "Authenticator", "Table", "judge"]

ADDRESS = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_FRAMES_MIN, _FRAMES_MAX = 6, 16
_LOOK_MS = 1_000
_BIND_S = 2.0
_AGAIN_S = 0.005
_LOCAL_PEER = re.compile(rb"localhost:([0-9]+):[0-9]+:[0-9]+")
_LOOPBACK = re.compile(rb"127(?:\.[0-9]{1,3}){3}|::1|::ffff:127(?:\.[0-9]{1,3}){3}")
_logger = logging.getLogger("zbus.broker")


class Table(NamedTuple):
    """Who is let in. ``insecure`` lets tcp in without a key, from loopback."""

    trust: Trust = Trust()
    insecure: bool = False


class _Verdict(NamedTuple):
    status: bytes
    text: bytes
    user: bytes = b""


_LET_IN = _Verdict(b"200", b"OK", LOCAL.encode())
_CANNOT_SAY = _Verdict(b"300", b"try again")
_UNKNOWN = _Verdict(b"400", b"not trusted")
_REVOKED = _Verdict(b"500", b"revoked")


def judge(question: Sequence[bytes], table: Table) -> _Verdict:
    """What to answer; ``question`` are the frames of a ZAP request."""
    if not _FRAMES_MIN <= len(question) <= _FRAMES_MAX or question[0] != _VERSION:
        return _CANNOT_SAY
    domain, address, mechanism, credentials = question[2], question[3], question[5], question[6:]
    if domain != DOMAIN.encode():
        return _UNKNOWN
    if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == 32:
        return _judge_key(z85.encode(credentials[0]).decode(), table.trust)
    if mechanism == b"NULL" and not credentials:
        return _judge_place(address, table.insecure)
    return _UNKNOWN


def _judge_key(public: str, trust: Trust) -> _Verdict:
    if trust.name_of(public) is not None:
        return _Verdict(b"200", b"OK", public.encode())
    return _REVOKED if trust.is_revoked(public) else _UNKNOWN


def _judge_place(address: bytes, insecure: bool) -> _Verdict:
    if local := _LOCAL_PEER.fullmatch(address):
        # The kernel said which user this is when it connected (SO_PEERCRED).
        return _LET_IN if int(local[1]) in (0, os.geteuid()) else _UNKNOWN
    return _LET_IN if insecure and _LOOPBACK.fullmatch(address) else _UNKNOWN


class Authenticator:
    """Answers ZeroMQ's questions for the sockets of one context."""

    def __init__(self, context: Context, table: Table) -> None:
        self.table = table
        self.counts = dict.fromkeys((b"200", b"300", b"400", b"500"), 0)
        self._context = context
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it answers. While it does not, nobody is let in."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin to answer; it does when this returns.

        Raises:
            InternalError: somebody else answers in this context.
        """
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._answer_on, args=(ready,), name="zbus-zap", daemon=True
        )
        self._thread.start()
        ready.wait(_BIND_S)
        if not self.is_alive:
            raise InternalError("the authenticator cannot be started")

    def stop(self) -> None:
        """End it; to be called before the context ends. A second call does nothing."""
        self._stopping.set()
        if self.is_alive:
            waker = Socket(self._context, zmq.REQ)
            waker.connect(ADDRESS)
            waker.send(b"", zmq.NOBLOCK)
            if self._thread is not None:
                self._thread.join()
            waker.close(0)

    def _answer_on(self, ready: threading.Event) -> None:
        try:
            socket = Socket(self._context, zmq.REP)
            try:
                socket.set(zmq.LINGER, 0)
                socket.set(zmq.RCVTIMEO, _LOOK_MS)
                _bind(socket)
                ready.set()
                while not self._stopping.is_set():
                    self._answer_one(socket)
            finally:
                socket.close(0)
        except Exception:
            _logger.exception("authenticator_failed")
        finally:
            ready.set()

    def _answer_one(self, socket: Socket) -> None:
        question = _received(socket)
        if not question or self._stopping.is_set():
            return
        verdict = self._judged(question)
        self.counts[verdict.status] += 1
        if verdict is not _LET_IN and verdict.status != b"200":
            _logger.warning("connection_refused", extra={"fields": _fields(question, verdict)})
        ask = question[1] if len(question) > 1 else b""
        reply = (_VERSION, ask, verdict.status, verdict.text, verdict.user, b"")
        for frame in reply[:-1]:
            socket.send(frame, zmq.SNDMORE)
        socket.send(reply[-1])

    def _judged(self, question: list[bytes]) -> _Verdict:
        try:
            return judge(question, self.table)
        except Exception:
            _logger.exception("authenticator_erred")
            return _CANNOT_SAY


def _bind(socket: Socket) -> None:
    """ZeroMQ gives the address back a moment after the one before was closed."""
    until = time.monotonic() + _BIND_S / 2
    while True:
        try:
            socket.bind(ADDRESS)
        except zmq.ZMQError:
            if time.monotonic() >= until:
                raise
            time.sleep(_AGAIN_S)
        else:
            return


def _received(socket: Socket) -> list[bytes]:
    try:
        frames = [bytes(socket.recv())]
        while socket.get(zmq.RCVMORE):
            frames.append(bytes(socket.recv()))
    except zmq.Again:
        return []
    return frames


def _fields(question: list[bytes], verdict: _Verdict) -> dict[str, str]:
    address = question[3] if len(question) > 3 else b""
    return {"address": address.decode("ascii", "replace"), "why": verdict.text.decode()}
