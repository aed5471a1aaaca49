"""A peer whose every request and push is noted in a ledger, and handlers that note their start.

A request's id in the ledgers is its trace context (``trace=``): made by whoever asks, carried by
the bus, seen by the handler.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from zbus.demo.ledger import REPLIED, Kind, Ledger
from zbus.demo.plan import REQUEST_S
from zbus.errors import Backpressure, ZbusError
from zbus.peer.dispatcher import Dispatcher, Incoming
from zbus.peer.peer import Peer

__all__ = ["Witness", "witnessed"]


class Witness:
    """A peer and its ledger."""

    def __init__(self, peer: Peer, ledger: Ledger) -> None:
        self.peer = peer
        self.ledger = ledger
        self._life = os.urandom(16).hex()
        self._begun = 0
        self._open = 0
        self._changed = threading.Condition()

    def request(self, topic: str, body: Any, *, to: str = "") -> Any:
        """Ask and wait, as ``Peer.request`` does."""
        key = self._begin(topic)
        try:
            reply = self.peer.request(topic, body, timeout=REQUEST_S, to=to, trace=key)
        except ZbusError as error:
            self._end(key, error)
            raise
        self._end(key, None)
        return reply

    def submit(self, topic: str, body: Any, *, to: str = "") -> Future[Any]:
        """Ask without waiting, as ``Peer.submit`` does."""
        key = self._begin(topic)
        try:
            future = self.peer.submit(topic, body, timeout=REQUEST_S, to=to, trace=key)
        except ZbusError as error:
            self._end(key, error)
            raise
        future.add_done_callback(lambda done: self._end(key, done.exception()))
        return future

    def push(self, topic: str, body: Any) -> None:
        """Push, and wait while too many are under way."""
        while True:
            try:
                return self.peer.push(topic, body)
            except Backpressure:
                self.peer.flush(timeout=1.0)

    def close(self) -> bool:
        """Leave the bus once every request has ended and every push is settled; note what the
        peer counted. Whether all was done in time."""
        self.peer.flush(timeout=REQUEST_S)
        with self._changed:
            ended = self._changed.wait_for(lambda: not self._open, REQUEST_S)
        counted = self.peer.counters()._asdict()
        self.peer.close()
        self.ledger.note(Kind.COUNTED, self.peer.name, counted)
        self.ledger.close()
        return ended

    def _begin(self, topic: str) -> str:
        with self._changed:
            self._begun += 1
            self._open += 1
            key = f"00-{self._life}-{self._begun:016x}-01"
        self.ledger.note(Kind.BEGUN, key, topic)
        return key

    def _end(self, key: str, error: BaseException | None) -> None:
        self.ledger.note(Kind.ENDED, key, _end_of(error))
        with self._changed:
            self._open -= 1
            self._changed.notify_all()


def witnessed(ledger: Ledger, handlers: dict[str, Callable[[Any, Incoming], Any]]) -> Dispatcher:
    """A dispatcher of these handlers, each of which notes that it starts."""
    dispatcher = Dispatcher()
    for topic, handler in handlers.items():
        dispatcher.add(topic, _noting(ledger, handler))
    return dispatcher


def _noting(
    ledger: Ledger, handler: Callable[[Any, Incoming], Any]
) -> Callable[[Any, Incoming], Any]:
    @functools.wraps(handler)
    def note(body: Any, request: Incoming) -> Any:
        if not request.is_push:
            ledger.note(Kind.STARTED, request.trace, request.source)
        return handler(body, request)

    return note


def _end_of(error: BaseException | None) -> str:
    if error is None:
        return REPLIED
    executed = f", executed={error.executed}" if isinstance(error, ZbusError) else ""
    return f"{type(error).__name__}{executed}"
