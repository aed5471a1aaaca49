"""The lanes of both ends over a way that loses suffixes: pushes are conserved (P7)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st

from zbus.protocol.codec import decode, encode
from zbus.protocol.credit import InLanes, OutLane, OutLanes
from zbus.protocol.effect import LaneKey, Take
from zbus.protocol.message import Credit, Parcel

LANE = LaneKey("e", 1, "t")


def sender() -> OutLanes:
    lanes = OutLanes("e", 1, 100, 10_000)
    lanes.window = 4
    return lanes


def credit(taken: int, window: int = 4, rewind: bool = False) -> Credit:
    return Credit(*LANE, taken, window, rewind)


def all_of(lanes: OutLanes) -> list[OutLane]:
    return list(lanes._lanes.values())


@dataclass
class Server:
    """One life of a server. ``taken`` is what it took, ``waiting`` what its handler still has."""

    lanes: InLanes = field(default_factory=lambda: InLanes(4, 0.25))
    taken: list[int] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)


@dataclass
class Way:
    """A sender and a server, and two queues between them that lose suffixes. ``handled`` are the
    pushes whose handler has returned at any server."""

    out: OutLanes = field(default_factory=sender)
    server: Server = field(default_factory=Server)
    other: Server = field(default_factory=Server)
    forth: deque[Parcel] = field(default_factory=deque)
    back: deque[Parcel] = field(default_factory=deque)
    handled: set[int] = field(default_factory=set)
    now: float = 0.0
    moves: int = 0

    def push(self) -> None:
        self.out.accept("t", b"%d" % (self.out.accepted + 1), ())

    def emit(self) -> None:
        self.now += 0.1
        self.forth.extend(self.out.emit(1, self.now))
        self.forth.extend(self.out.probe(1, self.now, 2.0))
        self.back.extend(self.server.lanes.emit())

    def arrive(self) -> None:
        if self.forth:
            (parcel,) = decode(encode([self.forth.popleft()]))
            take = self.server.lanes.receive(parcel, self.now)
            if take is not None:
                self._take(take)

    def _take(self, take: Take) -> None:
        for sequence, (body, _) in enumerate(take.bodies, take.sequence):
            last = self.server.taken[-1] if self.server.taken else 0
            assert sequence > last, "taken twice, or out of order"
            assert set(range(last + 1, sequence)) <= self.handled, "a gap that nobody settled"
            assert body == b"%d" % sequence
            self.server.taken.append(sequence)
            self.server.waiting.append(sequence)

    def finish(self) -> None:
        if self.server.waiting:
            sequence = self.server.waiting.popleft()
            self.handled.add(sequence)
            self.server.lanes.taken(LANE, sequence)

    def hear(self) -> None:
        if self.back:
            item = self.back.popleft().item
            assert isinstance(item, Credit)
            self.out.credit(item, self.now)

    def cut_sender(self) -> None:
        """What was under way both ways is lost; the sender attaches anew."""
        self.forth.clear()
        self.back.clear()
        self.out.rewind()

    def cut_server(self) -> None:
        """The same at the other end: the broker asks the sender to rewind."""
        self.forth.clear()
        self.back.clear()
        self.back.append(Parcel(credit(0, 4, True)))

    def replace(self) -> None:
        """The server is lost with all it had; another one begins."""
        self.moves += 1
        self.server = Server()
        self.cut_server()

    def switch(self) -> None:
        """The lane goes to another server, which may have had it before."""
        self.moves += 1
        self.server, self.other = self.other, self.server
        self.cut_server()

    def lose_newest(self) -> None:
        if self.forth:
            self.forth.pop()

    def hold(self) -> None:
        """Nobody serves it for a moment."""
        self.cut_server()
        self.back.appendleft(Parcel(credit(0, 0)))

    def shrink(self) -> None:
        self.back.append(Parcel(credit(0, 1)))

    def check(self) -> None:
        out, lanes = self.out, self.server.lanes
        assert out.accepted == out.delivered + out.dropped + out.queued
        assert out.queued == sum(len(lane.flying) + len(lane.waiting) for lane in all_of(out))
        assert lanes.delivered + lanes.queued == len(self.server.taken)
        for lane in all_of(out):
            assert set(range(1, lane.base)) <= self.handled, "settled before it was handled"
            assert out.delivered == lane.base - 1

    def heal(self) -> None:
        for _ in range(400):
            self.emit()
            while self.forth or self.back:
                self.arrive()
                self.finish()
                self.hear()
            self.finish()
            if not self.out.queued:
                return
        raise AssertionError("a push is stuck")


STEPS = st.lists(
    st.sampled_from(
        ["push"] * 4
        + ["emit", "arrive", "finish", "hear"] * 3
        + "cut_sender cut_server replace switch lose_newest hold shrink".split()
    ),
    max_size=120,
)


@settings(max_examples=5 * settings().max_examples)
@given(STEPS)
def test_pushes_are_conserved_whatever_is_lost(steps: list[str]) -> None:
    """Lost suffixes, gaps, repeats, replaced servers, holds and narrower windows: at every step
    the equation holds and order is kept, and once all heals every push was handled (P7)."""
    way = Way()
    for step in steps:
        getattr(way, step)()
        way.check()
    way.heal()
    assert way.out.delivered == way.out.accepted
    assert way.handled == set(range(1, way.out.accepted + 1))
    event(f"moves: {min(way.moves, 3)}")
    event("repeats" if way.server.lanes.repeats else "no repeats")
    if not way.moves:
        assert way.server.taken == list(range(1, way.out.accepted + 1)), "once, in order"
