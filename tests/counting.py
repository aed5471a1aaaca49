"""What a piece of work costs, counted and not timed: calls, blocks of memory, system calls.

Rules of this room:

* A call is counted in the room that makes or receives it, by its file: those of the package but
  ``zbus.testing``, whose simulator nobody pays for. What is compiled is not seen, so that a
  compiled build counts fewer.
* A count over real threads is taken several times, and the least is the figure: what a machine
  that is busy adds, such as a turn that found nothing, is no property of the code.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import zbus

__all__ = ["Calls", "allocated_blocks", "system_calls", "tracing_refusal"]

_PACKAGE = os.path.dirname(os.path.abspath(zbus.__file__)) + os.sep
_NOT_OURS = ("testing", "cli", "demo")
_ATTACH_S = 10.0
_TOTAL = re.compile(r"^100\.00\s+[\d.]+\s+\d*\s*(\d+)\s.*total$", re.M)


class Calls:
    """Counts the calls of Python and C functions by our rooms: in this thread while ``here`` is
    open, in threads that are started while ``everywhere`` is."""

    def __init__(self) -> None:
        self.by_room: Counter[str] = Counter()
        self._rooms: dict[str, str] = {}

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_room.values())

    @contextmanager
    def here(self) -> Iterator[None]:
        """Count what this thread does."""
        before = sys.getprofile()
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(before)

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Count what this thread does, and the threads that begin meanwhile, to their end."""
        threading.setprofile(self._note)
        try:
            with self.here():
                yield
        finally:
            threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event in {"call", "c_call"}:
            name = frame.f_code.co_filename
            room = self._rooms.get(name)
            if room is None:
                room = self._rooms[name] = _room_of(name)
            if room:
                self.by_room[room] += 1


def _room_of(path: str) -> str:
    if not path.startswith(_PACKAGE):
        return ""
    room = path.removeprefix(_PACKAGE).removesuffix(".py").replace(os.sep, ".")
    return "" if room.startswith(_NOT_OURS) else room


def allocated_blocks() -> int:
    """Blocks of memory that are in use in this process; what is only in circles is freed first,
    so that nothing is counted which the collector would take."""
    gc.collect()
    return sys.getallocatedblocks()


def tracing_refusal() -> str:
    """Why no system calls can be counted here, or an empty text."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    run = subprocess.run(["strace", "-c", "true"], capture_output=True, text=True, check=False)
    return "" if run.returncode == 0 else f"strace may not trace: {run.stderr.strip():.100}"


def system_calls(pid: int, work: Callable[[], object]) -> int:
    """System calls of that process, in all its threads, while the work is done."""
    command = ["strace", "-f", "-c", "-p", str(pid)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as tracer:
        assert tracer.stderr is not None
        try:
            ready, _, _ = select.select([tracer.stderr], [], [], _ATTACH_S)
            first = tracer.stderr.readline() if ready else ""
            assert "attached" in first, f"strace says: {first}"
            work()
        finally:
            with contextlib.suppress(ProcessLookupError):
                tracer.send_signal(signal.SIGINT)
        said = tracer.stderr.read()
    found = _TOTAL.search(said)
    assert found, said
    return int(found[1])
