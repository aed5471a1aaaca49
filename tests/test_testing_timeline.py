"""Events happen in the order of their times, and at one time in the order of planning."""

from __future__ import annotations

import math
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from zbus.testing.clock import VirtualClock
from zbus.testing.timeline import Timeline


@given(st.lists(st.integers(0, 5), max_size=30), st.lists(st.integers(0, 6), max_size=5))
def test_order_is_time_and_then_planning(instants: list[int], stops: list[int]) -> None:
    """However the time is told, events happen once, sorted, at their own times."""
    clock = VirtualClock()
    timeline = Timeline(clock)
    happened: list[tuple[float, int]] = []

    def happen(number: int) -> None:
        happened.append((clock.now, number))

    for number, instant in enumerate(instants):
        timeline.plan(instant, partial(happen, number))
    for stop in sorted({*stops, 7}):
        timeline.advance(stop)
        assert clock.now == stop
        assert (timeline.next_at() or math.inf) > stop
    assert happened == sorted((float(instant), number) for number, instant in enumerate(instants))


def test_events_may_plan_events() -> None:
    """What an event plans for now still happens in the same advance; the past is now."""
    clock = VirtualClock(10.0)
    timeline = Timeline(clock)
    happened: list[float] = []

    def again() -> None:
        happened.append(clock.now)
        if len(happened) < 3:
            timeline.plan(clock.now - 5.0, again)

    timeline.plan(11.0, again)
    assert timeline.next_at() == 11.0
    timeline.advance(12.0)
    assert happened == [11.0] * 3
    assert timeline.next_at() is None


def test_infinity_is_never() -> None:
    """An event at infinity is no event, so that a quiet simulation is seen to be over."""
    timeline = Timeline(VirtualClock())
    timeline.plan(math.inf, lambda: None)
    assert timeline.next_at() is None
