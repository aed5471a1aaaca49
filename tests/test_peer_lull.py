"""Who stands by comes back when it is called, and when nobody asks any more."""

from __future__ import annotations

import threading
import time
from itertools import count

from zbus.peer.lull import LULL_S, stand_by
from zbus.peer.slot import Slot

LONG_S = 30.0


def a_bell() -> threading.Lock:
    bell = threading.Lock()
    bell.acquire()
    return bell


def test_a_lull_ends_it() -> None:
    """Nobody leads, and nobody has asked since the last look."""
    began = time.monotonic()
    assert stand_by(a_bell(), LONG_S, lambda: (None, 7, True))
    assert LULL_S <= time.monotonic() - began < LONG_S / 2


def test_the_bell_ends_it_at_once() -> None:
    """It is looked at no further."""
    bell = a_bell()
    bell.release()
    looks = count()
    assert not stand_by(bell, LONG_S, lambda: (None, next(looks), True))
    assert next(looks) == 1


def test_whoever_leads_for_long_is_left_alone() -> None:
    """Two looks, and then no other until the bound."""
    looks, leader = count(), Slot(0.0)

    def look() -> tuple[Slot | None, int, bool]:
        next(looks)
        return leader, 7, True

    assert not stand_by(a_bell(), 20 * LULL_S, look)
    assert next(looks) == 2


def test_requests_that_follow_each_other_are_no_lull() -> None:
    """It goes on to its bound while there is another at each look."""
    asked = count()
    began = time.monotonic()
    assert not stand_by(a_bell(), 4 * LULL_S, lambda: (None, next(asked), True))
    assert time.monotonic() - began >= 4 * LULL_S
    assert next(asked) >= 2


def test_a_peer_that_serves_nothing_is_woken_by_nobody() -> None:
    """It looks once, and sleeps to its bound."""
    looks = count()
    assert not stand_by(a_bell(), 4 * LULL_S, lambda: (None, next(looks), False))
    assert next(looks) == 1
