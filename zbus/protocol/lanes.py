"""Which server takes the pushes of which lane: the broker's part in pushing (spec 7.5).

Rules:

* A lane (sender, topic) keeps one server until that server is lost or withdraws the topic, so
  that order and repeats can be judged in one place.
* The broker never stores a push. What it cannot forward it drops, and tells the sender to keep
  it (Credit with window 0) or, once there is a server, to send it again (Credit with rewind).
* A Credit is passed on only from the lane's own server.
* A lane is *held* while its server has no room for it, or its sender is too fast. It is then
  *narrow*: fewer pushes at once, and one more with every Credit, so that what its sender sends
  fits, and little is sent in vain.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from zbus.protocol.message import Credit
from zbus.protocol.roster import Peer

__all__ = ["LaneTable", "PushLane"]


@dataclass(slots=True, eq=False)
class PushLane:
    """One sender's pushes on one topic; ``server`` is None while nobody serves it.

    ``held_at`` is since when it is held, below 0 if it is not; ``width`` how many of its pushes
    may be under way. ``marks`` are what its server has read (see ``budget``) once it settles the
    push of that number; ``settled`` is the last that it has.
    """

    origin: Peer
    topic: str
    server: Peer | None
    width: int
    held_at: float = -1.0
    settled: int = 0
    marks: deque[tuple[int, int]] = field(default_factory=deque)

    @property
    def held(self) -> bool:
        """Whether its sender is to keep its pushes for a while."""
        return self.held_at >= 0.0

    def forwarded(self, sequence: int, mark: int) -> None:
        """The pushes up to this number are with the server, as far as we know."""
        self.marks.append((sequence, mark))

    def settle(self, taken: int) -> int:
        """Those up to this number are settled; the mark that proves, or 0."""
        mark = 0
        while self.marks and self.marks[0][0] <= taken:
            mark = self.marks.popleft()[1]
        self.settled = max(self.settled, taken)
        return mark

    def narrow(self, now: float) -> None:
        """Hold it: half as many at once from now on, or no more than are with the server."""
        under_way = self.marks[-1][0] - self.settled if self.marks else 1
        self.width = max(1, min(self.width // 2, under_way))
        self.held_at = now

    def restart(self) -> None:
        """Everything unsettled is said again."""
        self.held_at = -1.0
        self.marks.clear()


class LaneTable:
    """The lanes, by sender and by server."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._lanes: dict[tuple[Peer, str], PushLane] = {}
        self._by_server: dict[Peer, dict[PushLane, None]] = {}
        self._by_origin: dict[Peer, dict[PushLane, None]] = {}
        self._unserved: dict[str, dict[PushLane, None]] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def get(self, origin: Peer, topic: str) -> PushLane | None:
        """The lane, if one has been opened."""
        return self._lanes.get((origin, topic))

    def open(self, origin: Peer, topic: str, server: Peer | None) -> PushLane:
        """A sender's first push on a topic."""
        lane = PushLane(origin, topic, None, self._window)
        self._lanes[origin, topic] = lane
        self._by_origin.setdefault(origin, {})[lane] = None
        self._unserved.setdefault(topic, {})[lane] = None
        if server is not None:
            self.assign(lane, server)
        return lane

    def assign(self, lane: PushLane, server: Peer | None) -> None:
        """The lane is served by another peer from now on, or by none."""
        if lane.server is not None:
            self._by_server.get(lane.server, {}).pop(lane, None)
        lane.server = server
        if server is not None:
            self._by_server.setdefault(server, {})[lane] = None
            self._drop_unserved(lane)
        else:
            self._unserved.setdefault(lane.topic, {})[lane] = None

    def of_server(self, server: Peer) -> list[PushLane]:
        """The lanes this peer takes."""
        return list(self._by_server.get(server, ()))

    def of_origin(self, origin: Peer) -> list[PushLane]:
        """The lanes this peer sends on."""
        return list(self._by_origin.get(origin, ()))

    def count_of(self, origin: Peer) -> int:
        """How many lanes this peer sends on."""
        return len(self._by_origin.get(origin, ()))

    def load(self, server: Peer) -> int:
        """How many lanes this peer takes."""
        return len(self._by_server.get(server, ()))

    def unserved(self, topic: str) -> list[PushLane]:
        """The lanes on this topic that nobody takes."""
        return list(self._unserved.get(topic, ()))

    def forget_origin(self, origin: Peer) -> None:
        """The sender is gone, and its lanes with it."""
        for lane in self._by_origin.pop(origin, {}):
            del self._lanes[origin, lane.topic]
            if lane.server is not None:
                self._by_server.get(lane.server, {}).pop(lane, None)
            else:
                self._drop_unserved(lane)

    def forget_server(self, server: Peer) -> None:
        """A peer without lanes is gone; call after all its lanes were assigned anew."""
        self._by_server.pop(server, None)

    def hold(self, lane: PushLane) -> Credit:
        """What tells a sender to keep its pushes."""
        return Credit(lane.origin.name, lane.origin.epoch, lane.topic, 0, 0, False)

    def rewind(self, lane: PushLane) -> Credit:
        """What tells a sender to send everything unsettled again."""
        lane.restart()
        return Credit(lane.origin.name, lane.origin.epoch, lane.topic, 0, lane.width, True)

    def passed(self, lane: PushLane, item: Credit) -> Credit:
        """A Credit of the lane's server, as its sender is to hear it."""
        if not lane.held and lane.width >= self._window:
            return item
        lane.width = min(lane.width + 1, self._window)
        window = 0 if lane.held else min(item.window, lane.width)
        return Credit(item.source, item.epoch, item.topic, item.taken, window, item.rewind)

    def _drop_unserved(self, lane: PushLane) -> None:
        lanes = self._unserved.get(lane.topic)
        if lanes is not None:
            lanes.pop(lane, None)
            if not lanes:
                del self._unserved[lane.topic]
