"""Pushes on their way: the sender's lanes and the receiver's lanes (spec section 7).

A lane is one sender, in one life, on one topic. Order is kept within a lane.

Rules that make pushes conserved (promise P7):

* The sender keeps every push until a Credit settles it. It is bounded by count and bytes, and
  at the bound a push is refused, never dropped.
* The receiver takes the next in order and nothing else: repeats are dropped, a gap is answered
  with a Credit that asks for a rewind.
* Credits are cumulative, so a lost one is made good by the next; a lost tail is made good by
  the probe, which says the newest push again after two silent intervals.
* A newer life of a sender settles its older lanes; what an older one says after that is nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from zbus.errors import Backpressure
from zbus.protocol.effect import LaneKey, Take
from zbus.protocol.limits import BATCH_MAX_BYTES, FRAMES_MAX, PUSH_BATCH_MAX
from zbus.protocol.message import NO_FRAMES, Credit, Frames, Parcel, Push

__all__ = ["InLane", "InLanes", "OutLane", "OutLanes"]

_Body = tuple[bytes, Frames]
_LANES_MAX = 16_384
"""Lanes a receiver knows at once; beyond them the oldest settled one is forgotten."""
_LOOKS = 8
"""How often the probe looks at all lanes in the time after which it acts."""


@dataclass(slots=True, eq=False, repr=False)
class OutLane:
    """A topic we push to. ``flying`` were sent, ``waiting`` were not (or are to be again)."""

    topic: str
    window: int
    base: int = 1
    flying: deque[_Body] = field(default_factory=deque)
    waiting: deque[_Body] = field(default_factory=deque)
    held: bool = False
    heard: float = 0.0

    def rewind(self) -> None:
        """Everything unsettled is to be sent again."""
        self.waiting.extendleft(reversed(self.flying))
        self.flying.clear()

    def settle(self, taken: int) -> list[_Body]:
        """The pushes up to ``taken`` are settled; they are returned."""
        settled: list[_Body] = []
        while self.base <= taken and (self.flying or self.waiting):
            settled.append((self.flying or self.waiting).popleft())
            self.base += 1
        return settled


class OutLanes:
    """The sender's side: accepted = delivered + queued + dropped, at every instant."""

    def __init__(self, source: str, epoch: int, count_max: int, bytes_max: int) -> None:
        self._source = source
        self._epoch = epoch
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._lanes: dict[str, OutLane] = {}
        self._dirty: dict[str, None] = {}
        self._look_at = float("-inf")
        self.window = 1
        self.accepted = 0
        self.delivered = 0
        self.dropped = 0
        self.queued = 0
        self.size = 0

    def accept(self, topic: str, body: bytes, frames: Frames) -> None:
        """Take a push from its caller, or raise ``Backpressure``."""
        size = _size((body, frames))
        if self.queued >= self._count_max or self.size + size > self._bytes_max:
            raise Backpressure(
                f"{self.queued} pushes ({self.size} bytes) wait already", retry_after_s=0.01
            )
        lane = self._lanes.get(topic)
        if lane is None:
            lane = self._lanes[topic] = OutLane(topic, self.window)
        lane.waiting.append((body, frames))
        self._dirty[topic] = None
        self.accepted += 1
        self.queued += 1
        self.size += size

    def emit(self, session: int, awake: float) -> list[Parcel]:
        """The pushes that may leave now, in as few items as they fit."""
        if not self._dirty:
            return []
        parcels: list[Parcel] = []
        for topic in self._dirty:
            lane = self._lanes[topic]
            while lane.waiting and not lane.held and len(lane.flying) < lane.window:
                lane.heard = awake
                parcels.append(self._batch(lane, session))
        self._dirty.clear()
        return parcels

    def credit(self, item: Credit, awake: float) -> None:
        """The receiver, or the broker for it, says how far a lane is settled."""
        lane = self._lanes.get(item.topic)
        if lane is None or item.source != self._source or item.epoch != self._epoch:
            return
        for body in lane.settle(item.taken):
            self.delivered += 1
            self.queued -= 1
            self.size -= _size(body)
        lane.heard = awake
        lane.held = item.window == 0
        lane.window = min(item.window, self.window) or lane.window
        if item.rewind or lane.held:
            lane.rewind()
        self._dirty[item.topic] = None

    def rewind(self) -> None:
        """We are attached anew: all lanes send everything unsettled again."""
        for topic, lane in self._lanes.items():
            lane.rewind()
            lane.held = False
            lane.window = self.window
            self._dirty[topic] = None

    def probe(self, session: int, awake: float, silence_s: float) -> list[Parcel]:
        """The newest unsettled push of every lane that has been silent for too long."""
        if awake < self._look_at:
            return []
        self._look_at = awake + silence_s / _LOOKS
        parcels: list[Parcel] = []
        for lane in self._lanes.values():
            if lane.flying and awake - lane.heard >= silence_s:
                lane.heard = awake
                newest = lane.base + len(lane.flying) - 1
                parcels.append(self._parcel(lane, session, newest, [lane.flying[-1]]))
        return parcels

    def drop_all(self) -> int:
        """The session ends for good: what is queued is dropped, and counted."""
        lost, self.queued, self.size = self.queued, 0, 0
        self.dropped += lost
        self._lanes.clear()
        self._dirty.clear()
        return lost

    def _batch(self, lane: OutLane, session: int) -> Parcel:
        room = min(lane.window - len(lane.flying), PUSH_BATCH_MAX)
        first = lane.base + len(lane.flying)
        batch: list[_Body] = []
        size = frames = 0
        while lane.waiting and len(batch) < room:
            body = lane.waiting[0]
            size += _size(body)
            frames += len(body[1])
            if batch and (size > BATCH_MAX_BYTES or frames > FRAMES_MAX):
                break
            batch.append(lane.waiting.popleft())
        lane.flying.extend(batch)
        return self._parcel(lane, session, first, batch)

    def _parcel(self, lane: OutLane, session: int, first: int, batch: list[_Body]) -> Parcel:
        frames = tuple(frame for _, group in batch for frame in group)
        counts = tuple(len(group) for _, group in batch) if frames else ()
        item = Push(
            session,
            self._source,
            self._epoch,
            lane.topic,
            first,
            lane.base,
            tuple(body for body, _ in batch),
            counts,
        )
        return Parcel(item, frames)


@dataclass(slots=True, eq=False, repr=False)
class InLane:
    """What the receiver knows of a lane: the next push it takes, and what is settled."""

    next: int
    taken: int
    rewound_at: float = float("-inf")


class InLanes:
    """The receiver's side. ``delivered`` counts pushes given to a handler."""

    def __init__(self, window: int, rewind_every_s: float) -> None:
        self._window = window
        self._rewind_every_s = rewind_every_s
        self._lanes: dict[LaneKey, InLane] = {}
        self._lives: dict[tuple[str, str], LaneKey] = {}
        self._dirty: dict[LaneKey, bool] = {}
        self._refused: dict[LaneKey, int] = {}
        self.delivered = 0
        self.repeats = 0
        self.queued = 0

    def receive(self, parcel: Parcel, awake: float) -> Take | None:
        """The pushes to take now, in order; None if these are repeats or beyond a gap."""
        item = parcel.item
        assert isinstance(item, Push)
        key = LaneKey(item.source, item.epoch, item.topic)
        lane = self._lane(key, item.floor)
        if lane is None:
            return None
        skip = lane.next - item.sequence
        if skip < 0:
            self._ask_rewind(key, lane, awake)
            return None
        if skip >= len(item.bodies):
            self.repeats += len(item.bodies)
            self._dirty.setdefault(key, False)
            return None
        self.repeats += skip
        bodies = _bodies(item, parcel.frames)[skip:]
        first, lane.next = lane.next, lane.next + len(bodies)
        self.queued += len(bodies)
        return Take(key, first, bodies)

    def refuse(self, item: Push) -> None:
        """A push on a topic that is served no longer: once what was taken is settled, say that
        no more is taken, so that the broker gives the lane to another."""
        key = LaneKey(item.source, item.epoch, item.topic)
        lane = self._lanes.get(key)
        if lane is None:
            self._refused[key] = 0
        elif lane.taken == lane.next - 1:
            self._refused[key] = lane.taken

    def taken(self, key: LaneKey, sequence: int) -> None:
        """The handler is done with the lane's pushes up to ``sequence``."""
        lane = self._lanes.get(key)
        if lane is None or sequence <= lane.taken:
            return
        self._settle(lane, sequence)
        self._dirty.setdefault(key, False)

    def emit(self) -> list[Parcel]:
        """The credits that are owed now."""
        if not self._dirty and not self._refused:
            return []
        parcels = [
            Parcel(Credit(*key, self._lanes[key].taken, self._window, rewind), NO_FRAMES)
            for key, rewind in self._dirty.items()
            if key in self._lanes
        ]
        parcels += [
            Parcel(Credit(*key, taken, 0, False), NO_FRAMES) for key, taken in self._refused.items()
        ]
        self._dirty.clear()
        self._refused.clear()
        return parcels

    def _lane(self, key: LaneKey, floor: int) -> InLane | None:
        lane = self._lanes.get(key)
        if lane is None:
            return self._begin(key, max(floor, 1))
        if floor > lane.next:
            # Another server took those in between; the sender says that they are settled.
            self._settle(lane, lane.next - 1)
            lane.taken, lane.next = floor - 1, floor
        return lane

    def _begin(self, key: LaneKey, first: int) -> InLane | None:
        known = self._lives.get((key.source, key.topic))
        if known is not None and known.epoch > key.epoch:
            return None
        if known is not None:
            lane = self._lanes.pop(known)
            self._settle(lane, lane.next - 1)
        elif len(self._lanes) >= _LANES_MAX:
            self._drop_idle()
        self._lives[key.source, key.topic] = key
        lane = self._lanes[key] = InLane(first, first - 1)
        return lane

    def _settle(self, lane: InLane, sequence: int) -> None:
        done = sequence - lane.taken
        self.delivered += done
        self.queued -= done
        lane.taken = sequence

    def _drop_idle(self) -> None:
        # The oldest settled lane goes; its sender, should it come back, begins at its floor.
        for key, lane in self._lanes.items():
            if lane.taken == lane.next - 1 and key not in self._dirty:
                del self._lanes[key]
                del self._lives[key.source, key.topic]
                return

    def _ask_rewind(self, key: LaneKey, lane: InLane, awake: float) -> None:
        if awake - lane.rewound_at >= self._rewind_every_s:
            lane.rewound_at = awake
            self._dirty[key] = True


def _bodies(item: Push, frames: Frames) -> tuple[_Body, ...]:
    if not item.frames:
        return tuple((body, NO_FRAMES) for body in item.bodies)
    bodies: list[_Body] = []
    start = 0
    for body, count in zip(item.bodies, item.frames, strict=True):
        bodies.append((body, frames[start : start + count]))
        start += count
    return tuple(bodies)


def _size(body: _Body) -> int:
    return len(body[0]) + sum(len(frame) for frame in body[1]) if body[1] else len(body[0])
