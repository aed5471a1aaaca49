"""How long the I/O thread stands by, where callers turn the link themselves.

A caller that leads listens while it waits, and nobody does between two of its requests. A peer
that serves must be reached all the same. Rules:

* What stands by comes back once nobody has asked for ``LULL_S``.
* A leader that has been seen twice is left alone: it listens. Whoever has led for ``LULL_S`` or
  more calls back whoever stands by when it leaves, since nobody would notice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from zbus.peer.slot import Slot

__all__ = ["LULL_S", "stand_by"]

LULL_S = 0.005
"""A peer that serves is deaf for twice this at most."""


def stand_by(
    bell: threading.Lock, bound_s: float, look: Callable[[], tuple[Slot | None, int, bool]]
) -> bool:
    """Sleep until the bell rings, the bound is up, or there is a lull, which is whether. ``look``
    says who leads, how many requests were asked until now, and whether this peer serves."""
    until = time.monotonic() + bound_s
    leader_before: Slot | None = None
    asked_before = -1
    while (left_s := until - time.monotonic()) > 0.0:
        leader, asked, serves = look()
        if leader is None and asked == asked_before:
            return True
        is_long = not serves or (leader is not None and leader is leader_before)
        if bell.acquire(timeout=left_s if is_long else min(left_s, LULL_S)):
            return False
        leader_before, asked_before = leader, asked
    return False
