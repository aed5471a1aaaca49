"""What a process saw, written so that it survives the process: one line an event.

Every actor appends ``monotonic_ns event key rest`` to a file of its own with O_APPEND, so that a
kill -9 loses nothing that had happened. The checks read the files afterwards; CLOCK_MONOTONIC is
the same for all processes of a machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Entry", "Ledger", "read"]


class Entry(NamedTuple):
    """One event of one process."""

    at_s: float
    event: str
    key: str
    rest: str


class Ledger:
    """The file of this process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, event: str, key: str = "-", rest: str = "-") -> None:
        """Something happened."""
        line = f"{time.monotonic_ns()} {event} {key} {rest}\n"
        os.write(self._file, line.encode())


def read(path: Path) -> Iterator[Entry]:
    """The events of one process, in order. A torn last line is left out."""
    if not path.exists():
        return
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            at, event, key, rest = line.rstrip("\n").split(" ", 3)
            yield Entry(int(at) / 1e9, event, key, rest)
