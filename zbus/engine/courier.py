"""Fire-and-forget to engines that are found by name: in order, bounded, and never waited for.

Rules of this room:

* ``accept`` takes what is encoded already, and never waits. At the bound it raises
  ``Backpressure``, and nothing was accepted.
* To one peer goes one batch at a time, so that the order is kept. What the bus says was not
  delivered is counted and logged, and not sent again: a letter is handled at most once.
* The push lane of the bus leads to servers; this is for all others.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from zbus.engine.bus import Bus, Reply
from zbus.errors import Backpressure, ZbusError

__all__ = ["LETTERS_MAX", "Courier"]

LETTERS_MAX = 65_536
"""Letters of one engine that are not settled."""
_BATCH_MAX = 64
_BATCH_BYTES = 262_144
_PATIENCE_S = 30.0
"""How long a batch may take to be handled."""
_log = logging.getLogger("zbus.engine.courier")

L = TypeVar("L")


class Courier(Generic[L]):
    """Carries letters, of which ``weigh`` says the bytes; for any number of threads."""

    def __init__(
        self,
        bus: Bus,
        topic: str,
        weigh: Callable[[L], int],
        *,
        letters_max: int = LETTERS_MAX,
        log: logging.Logger = _log,
    ) -> None:
        self.dropped = 0
        self._bus = bus
        self._topic = topic
        self._weigh = weigh
        self._log = log
        self._letters_max = letters_max
        self._lanes: dict[str, deque[L]] = {}
        self._unsettled = 0
        self._changed = threading.Condition()

    def accept(self, address: str, letter: L) -> None:
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
            while self._unsettled and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return self._unsettled

    @property
    def unsettled(self) -> int:
        """How many letters are under way or wait."""
        return self._unsettled

    def _carry(self, address: str) -> None:
        """Send what waits for this peer, until a batch is under way or nothing waits."""
        while batch := self._next(address):
            settle = functools.partial(self._settle, address, len(batch))
            try:
                reply = self._bus.submit(self._topic, batch, timeout=_PATIENCE_S, to=address)
            except ZbusError as error:
                self._count(address, len(batch), error)
            else:
                reply.add_done_callback(settle)
                return

    def _next(self, address: str) -> list[L]:
        with self._changed:
            waiting = self._lanes[address]
            batch: list[L] = []
            size = 0
            while waiting and len(batch) < _BATCH_MAX:
                size += self._weigh(waiting[0])
                if batch and size > _BATCH_BYTES:
                    break
                batch.append(waiting.popleft())
            if not batch:
                del self._lanes[address]
            return batch

    def _settle(self, address: str, count: int, reply: Reply) -> None:
        self._count(address, count, reply.exception())
        self._carry(address)

    def _count(self, address: str, count: int, error: BaseException | None) -> None:
        with self._changed:
            self._unsettled -= count
            if error is not None:
                self.dropped += count
            self._changed.notify_all()
        if error is not None:
            self._log.warning("%d requests to %s were dropped: %s", count, address, error)
