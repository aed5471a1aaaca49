"""How many descriptors this process may have, and what that is room for.

Rules of this room:

* A broker takes all that it may have without asking anybody, and never uses them up. ZeroMQ
  accepts before anybody can say no, and what happens when there is no descriptor left is bad: over
  tcp it tries again and again, and over ipc it aborts the process.
* So half of them are kept free, and no more may queue up to be accepted than fit there, at six
  doors. Whoever is too much has been accepted and cut before the next comes.
"""

from __future__ import annotations

import os
import resource
import sys

__all__ = ["backlog_max", "connections_max", "raise_limit"]

_DOORS = 6


def raise_limit() -> int:
    """Take as many descriptors as the system lets us have; how many those are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def connections_max(wanted: int, limit: int) -> int:
    """As many connections as are wanted, or as there is room for, but at least one."""
    in_use = len(os.listdir("/proc/self/fd"))
    return max(1, min(wanted, limit - in_use - _spare(limit)))


def backlog_max(wanted: int, limit: int) -> int:
    """As long a queue at each door as is wanted, or as there is room for, but at least one."""
    return max(1, min(wanted, _spare(limit) // _DOORS))


def _spare(limit: int) -> int:
    return limit // 2
