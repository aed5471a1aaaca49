"""A signal is triggered or not, says with what, and follows its parent."""

from __future__ import annotations

import time

from zbus.engine.signal import Signal


def test_a_signal_is_triggered_until_it_is_reset() -> None:
    """Value, time and flag change together."""
    signal = Signal()
    assert (signal.triggered, signal.value, signal.trigger_time) == (False, None, None)
    before = time.monotonic()
    signal.trigger("stop")
    assert (signal.triggered, signal.value) == (True, "stop")
    assert signal.trigger_time is not None
    assert before <= signal.trigger_time <= time.monotonic()
    signal.reset("again")
    assert [signal.triggered, signal.value, signal.trigger_time] == [False, "again", None]


def test_a_parent_triggers_its_children_and_not_the_reverse() -> None:
    """A run's signal ends its tasks; a task's does not end the run."""
    run = Signal()
    task, other = Signal(run), Signal(run)
    task.trigger(True)
    assert (run.triggered, other.triggered) == (False, False)
    run.trigger(True)
    assert other.triggered
