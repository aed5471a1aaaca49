"""Silence is measured on a clock that leaves out my own stalls, and no more than those."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.protocol.liveness import PATIENCE, PATIENCE_IDLE, Pulse, Vigil

PERIOD = 0.25
ORDINARY = st.floats(0.0, PERIOD)
STALLS = st.floats(PERIOD + 0.1, 3_600.0)


@given(st.lists(ORDINARY))
def test_without_stalls_the_clock_is_the_clock(gaps: list[float]) -> None:
    """Who turns in time loses nothing, however long it goes on."""
    vigil, now = Vigil(100.0, PERIOD), 100.0
    for gap in gaps:
        now += gap
        vigil.turn(now)
        assert vigil.clock(now) == now
        assert vigil.waited_s(now) == 0.0


@given(st.lists(ORDINARY | STALLS, min_size=1))
def test_a_stall_counts_as_one_period(gaps: list[float]) -> None:
    """Waking time goes on by at most a period a turn, never backwards, and never stands still:
    whoever is always late must still find out who is lost."""
    vigil, now, awake = Vigil(0.0, PERIOD), 0.0, 0.0
    for gap in gaps:
        now += gap
        vigil.turn(now)
        later = vigil.clock(now)
        expected = gap if gap <= PERIOD + 0.05 else PERIOD
        assert later - awake == pytest.approx(expected, abs=1e-6)
        awake = later


@given(ORDINARY, STALLS, st.floats(0.0, 0.25))
def test_what_comes_after_a_stall_may_have_waited_for_all_of_it(
    before: float, stall: float, after: float
) -> None:
    """The time since the last turn, and not less: so nothing starts too late (P2, spec 6.2)."""
    vigil = Vigil(0.0, PERIOD)
    vigil.turn(before)
    woken = before + stall
    vigil.turn(woken)
    assert vigil.waited_s(woken) == pytest.approx(stall)
    vigil.turn(woken + after)
    assert vigil.waited_s(woken + after) == pytest.approx(stall + after, abs=1e-6)


def test_soon_after_a_stall_nothing_has_waited() -> None:
    """The suspicion ends: a quarter of a second later all of the backlog has been drained."""
    vigil = Vigil(0.0, PERIOD)
    vigil.turn(10.0)
    vigil.turn(10.2)
    assert vigil.waited_s(10.2) == pytest.approx(10.2)
    vigil.turn(10.3)
    assert vigil.waited_s(10.3) == 0.0


@given(STALLS)
def test_looking_at_the_clock_needs_no_turn(stall: float) -> None:
    """A call from a user may be the first thing after a stall: it sees the clock that the turn
    behind it will see."""
    vigil = Vigil(0.0, PERIOD)
    seen = vigil.clock(stall)
    vigil.turn(stall)
    assert vigil.clock(stall) == pytest.approx(seen)
    assert seen == pytest.approx(PERIOD)


def test_one_instant_is_one_turn() -> None:
    """Everything in a turn happens at one instant: noting it again changes nothing."""
    vigil = Vigil(0.0, PERIOD)
    for _ in range(3):
        vigil.turn(5.0)
        assert vigil.clock(5.0) == pytest.approx(PERIOD)
        assert vigil.waited_s(5.0) == pytest.approx(5.0)


def test_a_little_late_is_ordinary() -> None:
    """Scheduling is not a stall: 50 ms count as they are."""
    vigil = Vigil(0.0, PERIOD)
    vigil.turn(0.299)
    assert vigil.clock(0.299) == pytest.approx(0.299)
    assert vigil.waited_s(0.299) == 0.0


@given(st.lists(STALLS, max_size=5), ORDINARY)
def test_instants_translate_back(stalls: list[float], ahead: float) -> None:
    """A beat that is due in waking time is due at that instant, unless we stall before it."""
    vigil, now = Vigil(0.0, PERIOD), 0.0
    for stall in stalls:
        now += stall
        vigil.turn(now)
    at = vigil.instant(vigil.clock(now) + ahead)
    assert at == pytest.approx(now + ahead, abs=1e-6)
    assert vigil.next_turn() == now + PERIOD


def test_a_shorter_period_holds_from_the_next_turn() -> None:
    """A Welcome changes the interval: the wait that was planned before it is judged by it."""
    vigil = Vigil(0.0, PERIOD)
    vigil.turn(0.2)
    vigil.period = 1.0
    vigil.turn(1.15)
    assert vigil.clock(1.15) == pytest.approx(1.15)
    vigil.period = 0.05
    assert vigil.next_turn() == pytest.approx(1.2)


@given(st.integers(1, 8))
def test_eight_stalls_in_a_row_lose_nobody(stalls: int) -> None:
    """Stopped for a second again and again without hearing anything between: the others are not
    to blame (P11)."""
    vigil, pulse = Vigil(0.0, PERIOD), Pulse(0.0)
    for stop in range(1, stalls + 1):
        vigil.turn(float(stop))
    assert not pulse.lost(vigil.clock(float(stalls)), PATIENCE * 1.0)


def test_silence_is_counted_while_we_are_awake() -> None:
    """Lost after so many intervals of silence, and not before."""
    pulse = Pulse(10.0)
    assert not pulse.lost(12.25, PATIENCE)
    assert not pulse.lost(12.499, PATIENCE)
    assert pulse.lost(12.5, PATIENCE)
    assert not pulse.lost(13.99, PATIENCE_IDLE)
    assert pulse.lost(14.0, PATIENCE_IDLE)


def test_a_beat_is_due_when_we_have_been_silent() -> None:
    """Not before the interval is over."""
    pulse = Pulse(10.0)
    assert not pulse.must_speak(10.99, 1.0)
    assert pulse.must_speak(11.0, 1.0)
    pulse.spoke = 11.0
    assert not pulse.must_speak(11.5, 1.0)


def test_a_busy_peer_outlives_two_intervals_in_a_locked_interpreter() -> None:
    """Two intervals without a beat, and the beat before and after them, are within the patience;
    and a death is still told within three intervals (P10, P11)."""
    quarter = 0.25
    assert 2.0 + quarter < PATIENCE
    assert PATIENCE + quarter < 3.0
    assert 1.0 + quarter + 2.0 < PATIENCE_IDLE
