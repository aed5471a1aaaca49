"""A stopwatch that takes off what others had of the machine meanwhile.

So a bound in seconds can be one in seconds of a machine of our own. What counts is what the kernel
has counted (``/proc/stat``), over all processors; ours is what this process and those that are
named have used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Stopwatch"]

_TICKS = os.sysconf("SC_CLK_TCK")
_LEAST_SHARE = 0.2


class Stopwatch:
    """Runs from its making; ``processes`` are ours besides this one, and run all the while."""

    def __init__(self, processes: Iterable[int]) -> None:
        self._processes = list(processes)
        self._began = time.monotonic()
        self._idle_s, self._ours_s = _idle_s(), self._used_s()

    def read_s(self) -> float:
        """Seconds until now, less the share that others had of all processors."""
        wall_s = time.monotonic() - self._began
        whole_s = wall_s * (os.cpu_count() or 1)
        ours_s = self._used_s() - self._ours_s
        theirs_s = whole_s - (_idle_s() - self._idle_s) - ours_s
        return wall_s * min(max(1.0 - theirs_s / whole_s, _LEAST_SHARE), 1.0)

    def _used_s(self) -> float:
        return sum(map(_used_s, [os.getpid(), *self._processes]))


def _idle_s() -> float:
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(words[4]) + int(words[5])) / _TICKS


def _used_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
