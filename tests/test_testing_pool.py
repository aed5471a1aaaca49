"""Handlers run under virtual time as they do in a pool: at once, in order, late, or for ever."""

from __future__ import annotations

import pytest

from zbus.errors import HandlerError, NoHandler, RequestTimeout
from zbus.peer.call import Call, Result, Returned
from zbus.peer.dispatcher import Dispatcher
from zbus.protocol.effect import LaneKey
from zbus.protocol.message import NO_FRAMES
from zbus.testing.faults import PERFECT
from zbus.testing.history import Begun, History
from zbus.testing.pool import Pace, SimulatedPool
from zbus.testing.stage import Actor, Stage

LANE = LaneKey("e1", 1, "note")
NULL = b"\xc0"


class Host(Actor):
    def on_begin(self, now: float) -> None: ...

    def on_turn(self, now: float) -> bool:
        return False

    def wake_at(self, now: float) -> float | None:
        return None


class Workshop:
    """A pool on a stage, and what its calls ended with, at which true time."""

    def __init__(self, pace: Pace) -> None:
        self.stage = Stage(1, PERFECT)
        self.host = Host(self.stage, "s1")
        self.host.begin()
        self.dispatcher = Dispatcher()
        for topic in ("work", "note"):
            self.dispatcher.add(topic, lambda body: body)
        self.history = History()
        self.pool = SimulatedPool(self.host, self.dispatcher, self.history, pace)
        self.ends: list[tuple[float, Result]] = []
        self.number = 0

    def submit(self, topic: str = "work", left_s: float = 10.0) -> Call:
        call = self._call(topic, self.host.now + left_s)
        self.pool.submit(call)
        return call

    def push(self, count: int, lane: LaneKey = LANE) -> None:
        self.pool.submit_lane(lane, [self._call("note", None, lane.source) for _ in range(count)])

    def _call(self, topic: str, deadline: float | None, source: str = "e1") -> Call:
        def finish(result: Result) -> None:
            self.ends.append((round(self.stage.clock.now, 2), result))

        self.number += 1
        return Call(
            topic, source, NULL, NO_FRAMES, deadline, "", finish, epoch=1, number=self.number
        )

    def begun(self) -> list[Begun]:
        return [begun for strays in self.history.strays.values() for begun in strays]


def test_a_handler_begins_at_once_and_ends_after_its_time() -> None:
    """The history knows when, who, what was left of its time, and what it returned."""
    shop = Workshop(Pace(least_s=2.0, most_s=2.0))
    shop.submit()
    assert shop.pool.unfinished == 1
    shop.stage.pass_time(5.0)
    assert shop.ends == [(2.0, Returned(NULL, NO_FRAMES))]
    (begun,) = shop.begun()
    assert (begun.life, begun.at, begun.body) == (("s1", 1), 0.0, NULL)
    assert begun.left_s == pytest.approx(10.0)
    assert begun.ended_at == pytest.approx(2.0, abs=0.01)
    assert begun.result == Returned(NULL, NO_FRAMES)
    assert shop.pool.unfinished == shop.pool.close(1.0) == 0


def test_no_more_run_at_once_than_there_are_hands() -> None:
    """The others wait; one whose time is up meanwhile never begins."""
    shop = Workshop(Pace(least_s=1.0, most_s=1.0, hands=2))
    for left_s in (10.0, 10.0, 10.0, 0.5):
        shop.submit(left_s=left_s)
    shop.stage.pass_time(5.0)
    assert [at for at, _ in shop.ends] == [1.0, 1.0, 1.0, 2.0]
    assert len(shop.begun()) == 3
    assert any(isinstance(result, RequestTimeout) for _, result in shop.ends)


def test_any_number_may_be_too_late() -> None:
    """Each ends, however many wait behind each other."""
    shop = Workshop(Pace(least_s=1.0, most_s=1.0, hands=1))
    for _ in range(3_000):
        shop.submit(left_s=0.5)
    shop.stage.pass_time(5.0)
    assert len(shop.ends) == 3_000
    assert len(shop.begun()) == 1


def test_pushes_of_a_lane_run_one_after_the_other() -> None:
    """Those of another lane beside them, and they need no hand."""
    shop = Workshop(Pace(least_s=1.0, most_s=1.0, hands=1))
    shop.submit()
    shop.push(2)
    shop.push(1)
    shop.push(1, LaneKey("e2", 1, "note"))
    shop.stage.pass_time(10.0)
    assert [at for at, _ in shop.ends] == [1.0, 1.0, 1.0, 2.0, 3.0]
    assert [taken.sequence for taken in shop.history.lanes[LANE].taken] == [2, 3, 4]


def test_a_handler_that_hangs_returns_when_it_is_let_go() -> None:
    """One by one, or all; and then no other hangs."""
    shop = Workshop(Pace(hang_probability=1.0))
    for _ in range(3):
        shop.submit()
    shop.stage.pass_time(5.0)
    assert (len(shop.ends), len(shop.begun())) == (0, 3)
    assert shop.pool.let_one_go()
    shop.stage.pass_time(1.0)
    assert len(shop.ends) == 1
    shop.pool.let_go()
    shop.submit()
    shop.stage.pass_time(1.0)
    assert len(shop.ends) == 4
    assert not shop.pool.let_one_go()


def test_a_topic_can_be_made_to_hang() -> None:
    """The others do not."""
    shop = Workshop(Pace())
    shop.dispatcher.add("other", lambda body: body)
    shop.pool.hang("work")
    shop.submit()
    shop.submit("other")
    shop.stage.pass_time(1.0)
    assert len(shop.ends) == 1


def test_handlers_die_and_stop_with_their_process() -> None:
    """What was running in a killed process never ends; in a stopped one it ends later."""
    shop = Workshop(Pace(least_s=1.0, most_s=1.0))
    shop.submit()
    shop.host.stop()
    shop.stage.pass_time(3.0)
    assert shop.ends == []
    shop.host.cont()
    shop.stage.pass_time(0.2)
    assert len(shop.ends) == 1
    shop.submit()
    shop.host.crash()
    shop.stage.pass_time(3.0)
    assert len(shop.ends) == 1


def test_a_handler_that_raises_and_one_that_is_not_there_have_results() -> None:
    """Those of the dispatcher; nothing began where there is no handler."""
    shop = Workshop(Pace())
    shop.dispatcher.add("fail", lambda body: 1 / 0)
    shop.submit("fail")
    shop.submit("nobody")
    shop.stage.pass_time(1.0)
    assert {type(result) for _, result in shop.ends} == {HandlerError, NoHandler}
    assert len(shop.begun()) == 1


def test_a_coroutine_runs_as_far_as_it_does_not_wait() -> None:
    """There is no event loop in a simulation, and one that needs it is told so."""
    shop = Workshop(Pace())

    async def ready(body: object) -> object:
        return body

    class Waits:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield

    async def waits(body: object) -> None:
        await Waits()

    shop.dispatcher.add("ready", ready)
    shop.dispatcher.add("waits", waits)
    shop.submit("ready")
    shop.stage.pass_time(1.0)
    assert shop.ends == [(0.0, Returned(NULL, NO_FRAMES))]
    with pytest.raises(NotImplementedError, match="event loop"):
        shop.submit("waits")
