"""A virtual clock never goes back, and each process reads its own monotonic one."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zbus.testing.clock import VirtualClock

TEN_YEARS_S = 315_360_000.0
offsets = st.one_of(st.just(0.0), st.floats(0.0, 1.0), st.floats(0.0, TEN_YEARS_S))
rates = st.floats(0.9, 1.1)
spans = st.floats(0.0, 1e6)


@given(st.lists(spans, max_size=20))
def test_time_passes_as_told(steps: list[float]) -> None:
    """The clock shows the sum of what it was told, and stands still otherwise."""
    clock = VirtualClock(5.0)
    expected = 5.0
    for step in steps:
        clock.advance(step)
        expected += step
        assert clock.now == expected
        assert clock.now == expected


@pytest.mark.parametrize("instant", [4.999, -1.0, math.inf, math.nan])
def test_it_never_goes_back(instant: float) -> None:
    """Neither into the past nor where there is no time, and it stays where it was."""
    clock = VirtualClock(5.0)
    with pytest.raises(ValueError, match="cannot go to"):
        clock.advance_to(instant)
    assert clock.now == 5.0


def test_processes_do_not_agree() -> None:
    """Two views of one clock differ by their offsets, and drift apart by their rates."""
    clock = VirtualClock()
    young, old = clock.view(), clock.view(TEN_YEARS_S, rate=1.0001)
    assert (young.now(), old.now()) == (0.0, TEN_YEARS_S)
    clock.advance(1_000.0)
    assert young.now() == 1_000.0
    assert old.now() == pytest.approx(TEN_YEARS_S + 1_000.1, abs=1e-6)


@given(offsets, rates, spans, st.floats(0.0, 1e5))
@example(0.8599465287952899, 1.0791150789282984, 507717.2505113161, 91018.50589387534)
@example(0.0, 1.0426300397436012, 210148.41364230163, 15198.323667114044)
def test_an_alarm_is_never_early(offset: float, rate: float, start: float, ahead: float) -> None:
    """At the instant of a reading the clock shows that reading or, by a rounding, more."""
    clock = VirtualClock(start)
    view = clock.view(offset, rate)
    reading = view.now() + ahead
    instant = view.instant(reading)
    clock.advance_to(max(instant, clock.now))
    assert reading <= view.now() <= reading + 1e-6


def test_never_is_never() -> None:
    """A machine that wants nothing is not woken."""
    assert VirtualClock().view(3.0).instant(math.inf) == math.inf


@pytest.mark.parametrize(("offset", "rate"), [(0.0, 0.0), (0.0, -1.0), (math.inf, 1.0)])
def test_a_clock_that_cannot_be_is_refused(offset: float, rate: float) -> None:
    """A process's clock runs forward from somewhere."""
    with pytest.raises(ValueError, match="no clock runs"):
        VirtualClock().view(offset, rate)
