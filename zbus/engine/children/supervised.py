"""One engine over all of its lives: started again where it ends badly, and given up loudly.

Rules:

* Each life has a greater epoch than the one before, and the same name and launch token, so that
  it takes over its name on the bus and replies of the old one are refused (spec 6.4). The epoch is
  the monotonic clock in nanoseconds: a life that connected a thousand times is still older.
* More restarts than the intensity allows is an end: it is logged, told, and raised to who waits.
* What is being aborted is not started again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from zbus.engine.children.abort import Abort, Ask, Graces, abort
from zbus.engine.children.child import Ending, spawn
from zbus.engine.children.launch import Launch, Tally
from zbus.errors import ChildFailed
from zbus.peer.handover import new_token

__all__ = ["Supervised"]

_logger = logging.getLogger("zbus.children")


class Supervised:
    """An engine that ``Children`` has started."""

    def __init__(self, launch: Launch, on_end: Callable[[Supervised], object] | None) -> None:
        self.launch = launch
        self.epoch = 0
        self.restarts = 0
        self._on_end = on_end
        self._token = new_token()
        self._tally = Tally(launch.restarts)
        self._changing = threading.Lock()
        self._retired = False
        self._ended = threading.Event()
        self._failure = ""
        with self._changing:
            self._begin()

    @property
    def pid(self) -> int:
        """The process of its present or last life."""
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or will run again."""
        return not self._ended.is_set()

    @property
    def ending(self) -> Ending | None:
        """How its last life ended; None before its end."""
        return self._child.ending if self._ended.is_set() else None

    @property
    def failure(self) -> str:
        """Why it was given up; empty if it was not."""
        return self._failure

    def wait(self, timeout_s: float | None = None) -> Ending | None:
        """Wait until it has ended for good; None when the time is up.

        Raises:
            ChildFailed: it was given up, because it ended badly too often.
        """
        if not self._ended.wait(timeout_s):
            return None
        if self._failure:
            raise ChildFailed(self._failure)
        return self.ending

    def signal(self, number: int) -> None:
        """Signal its process group. Nothing happens where it is gone."""
        self._child.signal(number)

    def abort(self, ask: Ask | None, graces: Graces) -> Abort:
        """End it for good; see ``abort``."""
        began = time.monotonic()
        with self._changing:
            self._retired = True
            child = self._child
        step, ending, refusal = abort(child, ask, graces)
        took_ms = (time.monotonic() - began) * 1e3
        self._ended.wait()
        return Abort(self.launch.name, self.launch.job, step, ending, took_ms, refusal)

    # -- its lives -----------------------------------------------------------------------------

    def _begin(self) -> None:
        self.epoch = max(time.monotonic_ns(), self.epoch + 1)
        self._child = spawn(self.launch, self.launch.handover(self.epoch, self._token))
        self._child.follow(self._over)

    def _over(self, ending: Ending) -> None:
        """A life is over: begin another one, or end."""
        with self._changing:
            if self._begins_again(ending):
                return
        if self._failure:
            _logger.error("%s", self._failure)
        self._ended.set()
        try:
            if self._on_end is not None:
                self._on_end(self)
        except Exception:
            _logger.exception("who is told of the end of %s raised", self.launch.name)

    def _begins_again(self, ending: Ending) -> bool:
        if self._retired or ending.is_good or self.launch.restarts is None:
            return False
        name, intensity = self.launch.name, self.launch.restarts
        if not self._tally.allows(time.monotonic()):
            self._failure = (
                f"{name} ended with {ending} after {intensity.most} restarts"
                f" in {intensity.within_s:g} s and is given up"
            )
            return False
        try:
            self._begin()
        except ChildFailed as error:
            self._failure = f"{name} ended with {ending} and cannot be started again: {error.what}"
            return False
        self.restarts += 1
        _logger.warning("%s ended with %s and was started again", name, ending)
        return True
