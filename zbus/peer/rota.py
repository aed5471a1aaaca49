"""Whose turn it is: many lanes of pushes over the threads of one pool.

Rules:

* A lane is in one place: waiting in ``_ready``, or with the one worker that has its turn. So its
  pushes run in order and one at a time.
* A turn is asked for by a mark in the pool's queue. There are never more turns than
  ``turns_max``, asked for or taken, so that as many workers are left for requests.
* A turn is given back once. Where its worker was written off meanwhile, it has been given back
  for it, but the lane stays with that worker until the stuck handler ends.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from zbus.peer.call import Call
from zbus.peer.dispatcher import Handler

__all__ = ["Lane", "Rota"]


@dataclass(slots=True, eq=False)
class Lane:
    """Pushes in order, with their one handler. Only who has the turn takes from ``waiting``."""

    key: Hashable
    handler: Handler
    waiting: deque[Call]


class Rota:
    """The lanes that wait, in the order in which they get a turn."""

    def __init__(self, ask: Callable[[], None], turns_max: int) -> None:
        self._ask = ask
        self._turns_max = turns_max
        self._lock = threading.Lock()
        self._lanes: dict[Hashable, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._asked = 0
        self._taken = 0

    def add(self, key: Hashable, handler: Handler, calls: Sequence[Call]) -> None:
        """These pushes come after the lane's others."""
        with self._lock:
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = Lane(key, handler, deque())
                self._ready.append(lane)
            lane.waiting.extend(calls)
            self._ask_for_turns()

    def take(self) -> Lane | None:
        """A worker has found a mark: the lane whose turn it is, if one is left."""
        with self._lock:
            self._asked -= 1
            if not self._ready:
                return None
            self._taken += 1
            return self._ready.popleft()

    def give_back(self, lane: Lane, *, turn: bool) -> None:
        """The worker is done with its slice. ``turn`` False: the turn is back already."""
        with self._lock:
            if turn:
                self._taken -= 1
            if lane.waiting:
                self._ready.append(lane)
            else:
                del self._lanes[lane.key]
            self._ask_for_turns()

    def give_turn_back(self) -> None:
        """A worker was written off in its turn: another lane may have it."""
        with self._lock:
            self._taken -= 1
            self._ask_for_turns()

    def clear(self) -> list[Call]:
        """Take out all that wait."""
        with self._lock:
            calls: list[Call] = []
            for lane in self._lanes.values():
                calls.extend(lane.waiting)
                lane.waiting.clear()
            return calls

    def _ask_for_turns(self) -> None:
        free = self._turns_max - self._asked - self._taken
        for _ in range(min(free, len(self._ready) - self._asked)):
            self._asked += 1
            self._ask()
