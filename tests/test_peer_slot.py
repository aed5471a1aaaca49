"""A caller waits for one outcome, and no longer than it is told."""

from __future__ import annotations

import threading
import time

from zbus.errors import Cancelled
from zbus.peer.slot import Slot


def test_an_outcome_that_is_there_is_not_waited_for() -> None:
    """The gate is open already."""
    slot = Slot(deadline=0.0)
    outcome = Cancelled("given up")
    slot.end(outcome)
    assert slot.wait(0.0)
    assert slot.outcome is outcome


def test_a_wait_ends_with_the_outcome_of_another_thread() -> None:
    """As the I/O thread hands it over."""
    slot = Slot(deadline=0.0)
    thread = threading.Thread(target=lambda: slot.end(Cancelled("given up")))
    thread.start()
    assert slot.wait(30.0)
    assert slot.outcome is not None
    thread.join()


def test_a_wait_ends_when_the_time_is_up() -> None:
    """Never early."""
    slot = Slot(deadline=0.0)
    began = time.monotonic()
    assert not slot.wait(0.02)
    assert 0.02 <= time.monotonic() - began < 10.0
    assert not slot.wait(-1.0), "a time that has passed is no time"
    assert slot.outcome is None
