"""Fire-and-forget to peers that are found by name: in order, bounded, and never waited for.

Rules:

* ``accept`` takes what is encoded already, and never waits. At the bound it raises
  ``Backpressure``, and nothing was accepted.
* To one peer goes one batch at a time, so the order is kept (P7). What the bus says was not
  delivered is counted and logged, and not sent again: a letter is handled at most once.
* The push lane of the bus leads to servers; this is for all others.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import Any

from zbus.errors import Backpressure, ZbusError
from zbus.peer.peer import Peer

__all__ = ["Courier"]

_LETTERS_MAX = 65_536
_BATCH_MAX = 64
_BATCH_BYTES = 262_144
_PATIENCE_S = 30.0
"""How long a batch may take to be handled."""
_logger = logging.getLogger("zbus.nvflare")


class Courier:
    """Carries letters; safe for any number of threads."""

    def __init__(self, peer: Peer, topic: str, *, letters_max: int = _LETTERS_MAX) -> None:
        self.dropped = 0
        self._peer = peer
        self._topic = topic
        self._letters_max = letters_max
        self._lanes: dict[str, deque[bytes]] = {}
        self._unsettled = 0
        self._changed = threading.Condition()

    def accept(self, address: str, letter: bytes) -> None:
        """Take a letter to this peer.

        Raises:
            Backpressure: as many as are allowed wait already.
        """
        with self._changed:
            if self._unsettled >= self._letters_max:
                raise Backpressure(f"{self._unsettled} fire-and-forget requests wait")
            self._unsettled += 1
            waiting = self._lanes.get(address)
            if waiting is not None:
                waiting.append(letter)
                return
            self._lanes[address] = deque([letter])
        self._carry(address)

    def flush(self, timeout_s: float) -> int:
        """Wait until none is unsettled; how many are when the time is up."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._unsettled and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._unsettled

    def _carry(self, address: str) -> None:
        """Send what waits for this peer, until a batch is under way or nothing waits."""
        while batch := self._next(address):
            settle = functools.partial(self._settled, address, len(batch))
            try:
                future = self._peer.submit(self._topic, batch, timeout=_PATIENCE_S, to=address)
            except ZbusError as error:
                self._count(address, len(batch), error)
                continue
            future.add_done_callback(settle)
            return

    def _next(self, address: str) -> list[bytes]:
        with self._changed:
            waiting = self._lanes[address]
            batch: list[bytes] = []
            size = 0
            while waiting and len(batch) < _BATCH_MAX:
                size += len(waiting[0])
                if batch and size > _BATCH_BYTES:
                    break
                batch.append(waiting.popleft())
            if not batch:
                del self._lanes[address]
            return batch

    def _settled(self, address: str, count: int, future: Future[Any]) -> None:
        error = future.exception()
        self._count(address, count, error)
        self._carry(address)

    def _count(self, address: str, count: int, error: BaseException | None) -> None:
        with self._changed:
            self._unsettled -= count
            if error is not None:
                self.dropped += count
            self._changed.notify_all()
        if error is not None:
            _logger.warning("%d requests to %s were dropped: %s", count, address, error)
