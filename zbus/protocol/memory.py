"""What the handler's side remembers: every request it started, and how it ended (spec 6.4).

This is what makes a handler start at most once per request id (promise P5): a repeat finds the
id here and is answered from memory, or attached to the run that is still going.

Rules:

* An id is remembered from its start until its source says that it is settled, or until its
  deadline and a while after, because a repeat may have been under way that long. While it runs
  it is known in any case: a run that nobody waits for any more still holds its place.
* Bounded by count and bytes. What does not fit is refused before it starts, never forgotten
  after; so the bound in bytes may be passed by the replies of what was already running.
* A newer epoch of a source settles all of the older ones: a dead life sends no repeats.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from zbus.protocol.deadlines import Deadlines
from zbus.protocol.message import Fault, Key, Parcel, Reply, Request

__all__ = ["LINGER_S", "Memory", "Started"]

LINGER_S = 10.0
"""How long after its deadline an unsettled id is kept."""


@dataclass(slots=True, eq=False)
class Started:
    """One request that was started here; ``answer`` is None while it runs. ``large``: its
    argument is still coming in chunks, or its answer is being fetched so."""

    key: Key
    deadline: float
    answer: Parcel | None = None
    size: int = 0
    large: bool = False


@dataclass(slots=True, eq=False)
class _Source:
    """The unsettled numbers of one life of one source. ``order`` is a heap of them, because
    what was told to ask again may come after younger ones; forgotten numbers stay in it until
    the floor has passed them. ``stragglers`` are those that the floor has passed."""

    epoch: int
    started: dict[int, Started] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    stragglers: set[int] = field(default_factory=set)


class Memory:
    """Started requests by key, until they are settled or long overdue."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._sources: dict[str, _Source] = {}
        self._running: dict[Key, Started] = {}
        self._expiry: Deadlines[Key] = Deadlines()
        self.on_forgotten: Callable[[Key], None] = _nothing
        """Called with the id of what is forgotten while chunks of it are under way."""
        self.count = 0
        self.size = 0

    @property
    def running(self) -> int:
        """How many have not ended, remembered or not."""
        return len(self._running)

    def get(self, key: Key) -> Started | None:
        """What is known of this id."""
        source = self._sources.get(key.source)
        if source is not None and source.epoch == key.epoch:
            entry = source.started.get(key.number)
            if entry is not None:
                return entry
        return self._running.get(key)

    def has_room(self) -> bool:
        """Whether one more request may start."""
        return self.count < self._count_max and self.size < self._bytes_max

    def begin(self, key: Key, deadline: float) -> Started:
        """Remember a request that starts now."""
        source = self._sources.get(key.source)
        if source is None:
            source = self._sources[key.source] = _Source(key.epoch)
        entry = Started(key, deadline)
        source.started[key.number] = entry
        heapq.heappush(source.order, key.number)
        self._running[key] = entry
        self._expiry.set(key, deadline + LINGER_S)
        self.count += 1
        return entry

    def finish(self, entry: Started, answer: Parcel) -> None:
        """Remember how it ended, if it is remembered at all. A second end is ignored."""
        if self._running.pop(entry.key, None) is None:
            return
        entry.answer = answer
        if self.get(entry.key) is entry:
            entry.size = _size(answer)
            self.size += entry.size

    def forget(self, entry: Started) -> None:
        """It ended without having run, and may start again."""
        source = self._sources.get(entry.key.source)
        if source is not None and source.started.get(entry.key.number) is entry:
            self._forget(source, entry.key.number)

    def settle(self, request: Request) -> None:
        """Forget what the source of ``request`` says it will never ask for again."""
        source = self._sources.get(request.source)
        if source is None:
            return
        if source.epoch != request.epoch:
            if source.epoch < request.epoch:
                self._forget_life(source)
                source.epoch = request.epoch
            return
        order, floor = source.order, request.floor
        if not source.stragglers and (not order or order[0] >= floor):
            return
        while order and order[0] < floor:
            source.stragglers.add(heapq.heappop(order))
        for number in source.stragglers.difference(request.open):
            self._forget(source, number)
        source.stragglers.intersection_update(request.open)

    def outdated(self, key: Key) -> bool:
        """Whether a newer life of the source has been heard here."""
        source = self._sources.get(key.source)
        return source is not None and source.epoch > key.epoch

    def extend(self, entry: Started, deadline: float) -> None:
        """A repeat came, perhaps with a later deadline than the one known here."""
        if deadline > entry.deadline:
            entry.deadline = deadline
            self._expiry.set(entry.key, deadline + LINGER_S)

    def expire(self, now: float) -> None:
        """Forget what is long overdue."""
        for key in self._expiry.due(now):
            source = self._sources.get(key.source)
            if source is not None and source.epoch == key.epoch:
                self._forget(source, key.number)
                self.drop_empty(key.source)

    def drop_empty(self, name: str) -> None:
        """Forget a source of which nothing is remembered."""
        source = self._sources.get(name)
        if source is not None and not source.started:
            del self._sources[name]

    def next_at(self) -> float | None:
        """When something is next overdue."""
        return self._expiry.next_at()

    def _forget_life(self, source: _Source) -> None:
        for number in list(source.started):
            self._forget(source, number)
        source.order.clear()
        source.stragglers.clear()

    def _forget(self, source: _Source, number: int) -> None:
        entry = source.started.pop(number, None)
        if entry is None:
            return
        self.count -= 1
        self.size -= entry.size
        self._expiry.remove(entry.key)
        if entry.large:
            if entry.answer is None:
                self._running.pop(entry.key, None)  # it has not begun
            self.on_forgotten(entry.key)


def _nothing(key: Key) -> None:
    """Nobody wants to know."""


def _size(answer: Parcel) -> int:
    item = answer.item
    if isinstance(item, Reply):
        return len(item.body) + sum(len(frame) for frame in answer.frames)
    return len(item.text) if isinstance(item, Fault) else 0
