"""Turns of lanes: each lane in one place, in order, and never more turns than are allowed."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zbus.peer.call import Call, Result
from zbus.peer.dispatcher import Dispatcher, Handler
from zbus.peer.rota import Lane, Rota


def ignore(_result: Result) -> None:
    pass


def push(number: int) -> Call:
    return Call("t", "s", str(number).encode(), (), None, "", ignore)


def handler() -> Handler:
    dispatcher = Dispatcher()
    dispatcher.add("t", lambda body: None)
    found = dispatcher.handler("t")
    assert found is not None
    return found


HANDLER = handler()
LANES = "abcd"


class Turns(RuleBasedStateMachine):
    """Workers that take turns, give them back, and are written off, against lists of pushes."""

    def __init__(self) -> None:
        super().__init__()
        self.turns_max = 2
        self.marks = 0
        self.rota = Rota(self.ask, self.turns_max)
        self.added: dict[str, list[bytes]] = {key: [] for key in LANES}
        self.served: dict[str, list[bytes]] = {key: [] for key in LANES}
        self.holders: deque[Lane] = deque()
        self.written_off: deque[Lane] = deque()
        self.number = 0

    def ask(self) -> None:
        self.marks += 1

    @rule(key=st.sampled_from(LANES), count=st.integers(1, 5))
    def add(self, key: str, count: int) -> None:
        calls = [push(self.number + n) for n in range(count)]
        self.number += count
        self.added[key] += [call.body for call in calls]
        self.rota.add(key, HANDLER, calls)

    @precondition(lambda self: self.marks)
    @rule()
    def take(self) -> None:
        self.marks -= 1
        lane = self.rota.take()
        if lane is not None:
            assert lane not in self.holders
            assert lane not in self.written_off
            self.holders.append(lane)

    @precondition(lambda self: self.holders)
    @rule(count=st.integers(0, 3))
    def serve(self, count: int) -> None:
        lane = self.holders[0]
        for _ in range(min(count, len(lane.waiting))):
            self.served[self.key_of(lane)].append(lane.waiting.popleft().body)

    @precondition(lambda self: self.holders)
    @rule()
    def give_back(self) -> None:
        self.rota.give_back(self.holders.popleft(), turn=True)

    @precondition(lambda self: self.holders)
    @rule()
    def write_off(self) -> None:
        self.rota.give_turn_back()
        self.written_off.append(self.holders.popleft())

    @precondition(lambda self: self.written_off)
    @rule()
    def end_of_written_off(self) -> None:
        self.rota.give_back(self.written_off.popleft(), turn=False)

    @invariant()
    def turns_are_bounded(self) -> None:
        assert self.marks + len(self.holders) <= self.turns_max

    @invariant()
    def pushes_are_served_in_order(self) -> None:
        for key in LANES:
            assert self.served[key] == self.added[key][: len(self.served[key])]

    def teardown(self) -> None:
        """All lanes are served to the end, once stuck handlers have ended."""
        while self.written_off:
            self.end_of_written_off()
        for _ in range(1_000):
            if self.marks:
                self.take()
            if not self.holders:
                break
            lane = self.holders[0]
            self.served[self.key_of(lane)] += [call.body for call in lane.waiting]
            lane.waiting.clear()
            self.give_back()
        assert self.served == self.added
        assert self.marks == 0

    def key_of(self, lane: Lane) -> Any:
        return lane.key


TestTurns = Turns.TestCase
TestTurns.settings = settings(max_examples=100, stateful_step_count=40)


def test_lanes_take_turns_in_order_of_waiting() -> None:
    """A lane that has had its slice waits behind all others."""
    rota = Rota(lambda: None, 1)
    for key in "abc":
        rota.add(key, HANDLER, [push(1), push(2)])
    order = []
    for _ in range(6):
        lane = rota.take()
        assert lane is not None
        order.append(lane.key)
        lane.waiting.popleft()
        rota.give_back(lane, turn=True)
    assert order == list("abcabc")
    assert rota.take() is None


def test_clear_takes_out_all_that_wait() -> None:
    """Also of a lane that a worker has at the moment, whose worker then finds nothing."""
    rota = Rota(lambda: None, 1)
    for key in "ab":
        rota.add(key, HANDLER, [push(1), push(2)])
    lane = rota.take()
    assert lane is not None
    assert len(rota.clear()) == 4
    assert not lane.waiting
    rota.give_back(lane, turn=True)
    assert rota.clear() == []
