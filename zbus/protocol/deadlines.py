"""Keys that fall due: a table of instants, in O(log n), with lazy removal.

Rules: a key has at most one instant; setting it again moves it; time is an argument. A removed
or moved key leaves a stale entry in the heap, and the heap is rebuilt once stale entries
outnumber live ones, so that requests that end long before their deadline cost no memory.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

K = TypeVar("K", bound=Hashable)
_STALE_MIN = 64


class Deadlines(Generic[K]):
    """Which keys fall due, and when the next one does."""

    def __init__(self) -> None:
        self._order = itertools.count()
        self._live: dict[K, int] = {}
        self._heap: list[tuple[float, int, K]] = []

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, key: K) -> bool:
        return key in self._live

    def set(self, key: K, at: float) -> None:
        """``key`` falls due at ``at``, and no longer at any other instant."""
        order = next(self._order)
        self._live[key] = order
        heapq.heappush(self._heap, (at, order, key))
        if len(self._heap) > 2 * len(self._live) + _STALE_MIN:
            self._rebuild()

    def remove(self, key: K) -> None:
        """``key`` no longer falls due; nothing happens if it did not."""
        if self._live.pop(key, None) is not None and (
            len(self._heap) > 2 * len(self._live) + _STALE_MIN
        ):
            self._rebuild()

    def due(self, now: float) -> list[K]:
        """The keys whose instant has come, earliest first; they are removed."""
        keys: list[K] = []
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, order, key = heapq.heappop(heap)
            if self._live.get(key) == order:
                del self._live[key]
                keys.append(key)
        return keys

    def next_at(self) -> float | None:
        """The earliest instant, or None when no key is set."""
        heap = self._heap
        while heap and self._live.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def _rebuild(self) -> None:
        self._heap = [entry for entry in self._heap if self._live.get(entry[2]) == entry[1]]
        heapq.heapify(self._heap)
