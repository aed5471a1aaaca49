"""The broker's way with pushes: to the lane's server, or back to the sender's keeping.

Rules (spec 7.2 to 7.5):

* The session in a Push says who sent it, because a PULL socket does not; an unknown one is an
  earlier attachment's, and its sender sends those pushes again by itself.
* A lane keeps its server. When that server is lost, back on a new connection, or says that it
  takes no more, the sender rewinds and the lane goes on where it was settled.
* Nothing is stored here; a push that cannot be forwarded is dropped only because its sender
  still has it, and is told so.
* So is a push for which its server's backlog has no room, or that comes faster than its sender
  may (P8). Its lane is held, and goes on where it was settled once there is room.
"""

from __future__ import annotations

from collections import Counter

from zbus.protocol.budget import weigh
from zbus.protocol.choice import ask_receipts, say
from zbus.protocol.deadlines import Deadlines
from zbus.protocol.effect import BrokerEffect, Send
from zbus.protocol.lanes import LaneTable, PushLane
from zbus.protocol.limits import TOPICS_MAX, Limits
from zbus.protocol.message import Credit, Parcel, Push, without_session
from zbus.protocol.roster import Peer, Roster

__all__ = ["Conveyor"]

_RETRY_S = 0.05
"""How often it is looked whether a held lane may go on."""
_UNSETTLED_S = 1.0
"""A held lane waits so long for what its server has: what is unsettled will be said again."""


class Conveyor:
    """Pushes and their credits, between the peers of a roster."""

    def __init__(self, roster: Roster, limits: Limits) -> None:
        self.lanes = LaneTable(limits.push_window)
        self.counts: Counter[str] = Counter()
        self.denied: dict[Peer, str] = {}
        """Who pushed where it may not, and where; the broker sends it away."""
        self._roster = roster
        self._held: Deadlines[PushLane] = Deadlines()

    def pushed(self, parcel: Parcel, now: float, effects: list[BrokerEffect]) -> None:
        """A Push came on the pipe."""
        item = parcel.item
        assert isinstance(item, Push)
        origin = self._roster.of_session(item.session)
        if origin is None or origin.name != item.source or origin.epoch != item.epoch:
            self.counts["pushes_of_no_session"] += len(item.bodies)
            return
        lane = self.lanes.get(origin, item.topic) or self._open(origin, item.topic, effects)
        if lane is None or lane.held or lane.server is None or lane.server.route is None:
            self.counts["pushes_sent_back"] += len(item.bodies)
            return
        size = weigh(parcel)
        wait_s = self._wait_s(lane, len(item.bodies), size, now, effects)
        if wait_s > 0.0:
            self.counts["pushes_sent_back"] += len(item.bodies)
            self._hold(lane, now, wait_s, effects)
            return
        self.counts["pushes"] += len(item.bodies)
        passed = Parcel(without_session(item), parcel.frames)
        mark = say(lane.server, passed, self._roster.budget, effects)
        lane.forwarded(item.sequence + len(item.bodies) - 1, mark)

    def credited(self, server: Peer, item: Credit, effects: list[BrokerEffect]) -> None:
        """A Credit came from ``server``: passed on, if the lane is its own."""
        origin = self._roster.named(item.source)
        lane = self.lanes.get(origin, item.topic) if origin is not None else None
        if lane is None or lane.server is not server or lane.origin.epoch != item.epoch:
            self.counts["credits_of_no_lane"] += 1
            return
        self._roster.budget.prove(server.backlog, lane.settle(item.taken))
        if item.rewind:
            lane.marks.clear()
        _tell(lane.origin, self.lanes.passed(lane, item), effects)
        if item.window == 0:
            self._reassign(lane, server, effects)

    def tick(self, now: float, effects: list[BrokerEffect]) -> None:
        """Time has passed: lanes that were held go on, if there is room for them."""
        for lane in self._held.due(now):
            if not lane.held or self.lanes.get(lane.origin, lane.topic) is not lane:
                continue
            if self._may_go_on(lane, now):
                _tell(lane.origin, self.lanes.rewind(lane), effects)
            else:
                self._held.set(lane, now + _RETRY_S)

    def next_at(self) -> float | None:
        """When ``tick`` is next due."""
        return self._held.next_at()

    def origin_lost(self, peer: Peer) -> None:
        """A sender is gone."""
        self.lanes.forget_origin(peer)

    def server_lost(self, peer: Peer, effects: list[BrokerEffect]) -> None:
        """A server is gone: its lanes go to others, or back to their senders' keeping."""
        for lane in self.lanes.of_server(peer):
            self._reassign(lane, peer, effects)
        self.lanes.forget_server(peer)

    def server_back(self, peer: Peer, effects: list[BrokerEffect]) -> None:
        """A server is back on a new connection: what was under way to it may be lost."""
        for lane in self.lanes.of_server(peer):
            _tell(lane.origin, self.lanes.rewind(lane), effects)

    def origin_back(self, peer: Peer, effects: list[BrokerEffect]) -> None:
        """A sender is back, and believes that its lanes are served: those that are not."""
        for lane in self.lanes.of_origin(peer):
            if lane.server is None or lane.held:
                _tell(peer, self.lanes.hold(lane), effects)

    def served(self, topic: str, effects: list[BrokerEffect]) -> None:
        """Somebody serves this topic now."""
        for lane in self.lanes.unserved(topic):
            self._assign(lane, None, effects)

    def _open(self, origin: Peer, topic: str, effects: list[BrokerEffect]) -> PushLane | None:
        if origin.grants is not None and not origin.grants.may_push(topic):
            self.denied[origin] = topic
            return None
        if self.lanes.count_of(origin) >= TOPICS_MAX:
            _tell(origin, Credit(origin.name, origin.epoch, topic, 0, 0, False), effects)
            return None
        lane = self.lanes.open(origin, topic, self._server(topic, None))
        if lane.server is None:
            _tell(origin, self.lanes.hold(lane), effects)
        return lane

    def _wait_s(
        self, lane: PushLane, count: int, size: int, now: float, effects: list[BrokerEffect]
    ) -> float:
        """Seconds for which a push is kept back; 0 lets it pass, and counts it."""
        assert lane.server is not None
        if not self._roster.budget.admits(lane.server.backlog, size):
            ask_receipts([lane.server], self._roster.budget, effects)
            return _RETRY_S
        grants = lane.origin.grants
        return 0.0 if grants is None else grants.push_wait_s(count, size, now)

    def _hold(self, lane: PushLane, now: float, wait_s: float, effects: list[BrokerEffect]) -> None:
        self.counts["lanes_held"] += 1
        lane.narrow(now)
        self._held.set(lane, now + wait_s)
        _tell(lane.origin, self.lanes.hold(lane), effects)

    def _may_go_on(self, lane: PushLane, now: float) -> bool:
        if lane.server is None or not self._roster.budget.is_roomy(lane.server.backlog):
            return False
        return not lane.marks or now - lane.held_at >= _UNSETTLED_S

    def _reassign(self, lane: PushLane, without: Peer, effects: list[BrokerEffect]) -> None:
        self.lanes.assign(lane, None)
        self._assign(lane, without, effects)

    def _assign(self, lane: PushLane, without: Peer | None, effects: list[BrokerEffect]) -> None:
        # The one to do without gets it back if it is the only one: it took the topic up again
        # while its refusal was under way, or else it is not among the servers of the topic.
        server = self._server(lane.topic, without) or self._server(lane.topic, None)
        if server is not None:
            self.lanes.assign(lane, server)
            _tell(lane.origin, self.lanes.rewind(lane), effects)
        else:
            _tell(lane.origin, self.lanes.hold(lane), effects)

    def _server(self, topic: str, without: Peer | None) -> Peer | None:
        """The attached server with the fewest lanes."""
        servers = [
            peer
            for peer in self._roster.serving(topic)
            if peer is not without and peer.route is not None
        ]
        return min(servers, key=self.lanes.load, default=None)


def _tell(peer: Peer, item: Credit, effects: list[BrokerEffect]) -> None:
    if peer.route is not None:
        effects.append(Send(peer.route, Parcel(item)))
