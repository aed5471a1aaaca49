"""What a process uses, as the kernel counts it: processor time, memory, its highest memory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Usage", "forget_peak", "used_by"]

_TICKS = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM = 11, 12
"""Of the fields of /proc/PID/stat that follow the name."""


class Usage(NamedTuple):
    """Of one process until now; memory in KiB."""

    cpu_s: float
    rss_kib: int
    peak_kib: int


def used_by(pid: int) -> Usage:
    """What it has used until now."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    sizes = {name: text.split() for name, _, text in (line.partition(":") for line in lines)}
    ticks = int(fields[_USER]) + int(fields[_SYSTEM])
    return Usage(ticks / _TICKS, int(sizes["VmRSS"][0]), int(sizes["VmHWM"][0]))


def forget_peak(pid: int) -> None:
    """Begin its highest memory anew, where the kernel lets us."""
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")
