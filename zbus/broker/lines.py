"""Lines written by a thread of their own, so that a reader that stalls stops nobody else.

Rules of this room:

* ``put`` never waits. What finds the queue full is dropped and counted; the count is written
  as a line of its own as soon as the reader reads again, so that a gap in a log shows.
* The thread writes to the descriptor itself, not through ``sys.stderr``: a thread that died
  inside a buffered stream would take the interpreter's exit with it.
"""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable

__all__ = ["LineWriter"]

_LINES_MAX = 4_096
_CLOSE_WAIT_S = 1.0


class LineWriter:
    """Writes lines to a descriptor, which stays its owner's to close."""

    def __init__(
        self, descriptor: int, story: Callable[[int], str], lines_max: int = _LINES_MAX
    ) -> None:
        self._descriptor = descriptor
        self._story = story
        self._told = 0
        self._dropped = 0
        self._closing = False
        self._counting = threading.Lock()
        self._queue: queue.Queue[str | None] = queue.Queue(lines_max)
        self._thread = threading.Thread(target=self._write_all, name="zbus-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._dropped

    def put(self, line: str) -> None:
        """Have the line written, now or soon; drop it where too many wait."""
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self.drop()

    def drop(self) -> None:
        """Count a line that will not be written."""
        with self._counting:
            self._dropped += 1

    def close(self, wait_s: float = _CLOSE_WAIT_S) -> bool:
        """Write what waits; False where the reader did not take it in time.

        The thread then ends when the reader has taken it, or with the process.
        """
        self._closing = True
        try:
            self._queue.put(None, timeout=wait_s)
        except queue.Full:
            return False
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _write_all(self) -> None:
        while (line := self._queue.get()) is not None:
            if not self._written(line):
                self.drop()
            self._tell_dropped()
            if self._closing and self._queue.empty():
                return  # the queue was full, so that nothing marks its end
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        untold = self._dropped - self._told
        if untold and self._written(self._story(untold)):
            self._told += untold

    def _written(self, line: str) -> bool:
        rest = memoryview(f"{line}\n".encode("utf-8", "replace"))
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
        except OSError:
            return False  # nobody reads any more, or the disk is full
        return True

    def _write_some(self, rest: memoryview) -> int:
        try:
            return os.write(self._descriptor, rest)
        except BlockingIOError:  # somebody made the descriptor non-blocking
            waiting = select.poll()
            waiting.register(self._descriptor, select.POLLOUT)
            waiting.poll()
            return 0
