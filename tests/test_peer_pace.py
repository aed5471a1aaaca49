"""Which handlers are quick, and from when on they are not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zbus.peer.pace import DOUBT, QUICK_S, RUNS, Pace

QUICK, SLOW = QUICK_S / 2, QUICK_S


def test_nobody_is_quick_before_it_was_so_many_times() -> None:
    """And each topic for itself."""
    pace = Pace()
    for _ in range(RUNS):
        assert not pace.is_quick("a")
        pace.note("a", QUICK)
    assert pace.is_quick("a")
    assert not pace.is_quick("b")


def test_one_slow_run_costs_a_long_doubt() -> None:
    """However quick it had been before."""
    pace = Pace()
    for _ in range(2 * RUNS):
        pace.note("a", QUICK)
    pace.note("a", SLOW)
    for _ in range(RUNS + DOUBT):
        assert not pace.is_quick("a")
        pace.note("a", QUICK)
    assert pace.is_quick("a")


@given(st.lists(st.booleans(), max_size=200))
def test_quick_means_that_the_last_runs_were(runs: list[bool]) -> None:
    """Whatever came before."""
    pace = Pace()
    for quick in runs:
        pace.note("a", QUICK if quick else SLOW)
    if pace.is_quick("a"):
        assert len(runs) >= RUNS
        assert all(runs[-RUNS:])
    if runs and all(runs):
        assert pace.is_quick("a") == (len(runs) >= RUNS)
