"""Async handlers: an event loop on a thread of its own, and another one when that is blocked.

Rules:

* All async handlers share one loop, so a handler must not block. When one does until past its
  deadline, the loop is *retired*: what has not begun moves to a new loop, what has begun goes on
  where it is, and the retired loop ends with its last handler (P12).
* A handler is interrupted soon after its deadline, and when its caller gives up, by cancelling
  its task; never before it has begun, so that every call comes to its end by itself.
* Handing over wakes the loop's thread only where it has not been woken already.
* A lane is one task: its pushes run in order and one at a time, on whichever loop it began.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from zbus.errors import InternalError
from zbus.peer.call import Call, Result
from zbus.peer.dispatcher import Clock, Handler, perform_async

__all__ = ["Coroutines"]

_BLOCKED_S = 0.4
"""A loop that has not answered for this long is blocked; it is retired if a call is late, too."""
_SWEEP_S = 0.025
"""How often deadlines are looked at while handlers run. A timer for each call costs more."""
_RETIRED_MAX = 8
_LANE_BATCH = 64
"""Pushes of a lane before the other tasks of the loop get their turn, should none of them wait."""
_ENDING_S = 0.1
_logger = logging.getLogger("zbus.handler")


class Coroutines:
    """Runs async handlers; ``finish`` is called once for every call that comes to its end. Those
    that come after ``close``, or that it could not end, do not."""

    def __init__(
        self, finish: Callable[[Call, Result], None], clock: Clock, push_patience_s: float
    ) -> None:
        self.finish = finish
        self.clock = clock
        self._push_patience_s = push_patience_s
        self._lock = threading.Lock()
        self._lanes: dict[Hashable, deque[Call]] = {}
        self._loop: _Loop | None = None
        self._retired: list[_Loop] = []
        self._closed = False

    def submit(self, handler: Handler, call: Call) -> None:
        """Run the handler of one request."""
        with self._lock:
            if not self._closed:
                self._of_now().post(lambda loop: loop.begin(loop.request(handler, call)))

    def submit_lane(self, lane: Hashable, handler: Handler, calls: Sequence[Call]) -> None:
        """Run the handler of these pushes, in order, after those that were given before."""
        with self._lock:
            waiting = self._lanes.get(lane)
            if waiting is not None:
                waiting.extend(calls)
            if waiting is not None or self._closed:
                return
            self._lanes[lane] = deque(calls)
            self._of_now().post(lambda loop: loop.begin(self._turn_lane(loop, lane, handler)))

    def cancel(self, call: Call) -> None:
        """Interrupt the handler of this call, if it has begun."""
        with self._lock:
            loops = [*self._retired, *([self._loop] if self._loop else [])]
        for loop in loops:
            if call in loop.tasks:
                loop.post(lambda loop: loop.interrupt(call))

    def inspect(self, now: float) -> None:
        """Retire the loop if it is blocked. Called several times a second while calls are open."""
        loop = self._loop
        if loop is None:
            return
        blocked_s = loop.blocked_s(now)
        if blocked_s > _BLOCKED_S and self._is_late(loop, now, blocked_s):
            self._replace(loop, blocked_s)
        with self._lock:
            self._retired = [loop for loop in self._retired if loop.thread.is_alive()]

    def close(self, timeout_s: float) -> None:
        """Interrupt what runs, wait a little for it, and end the loops that can be ended."""
        end = time.monotonic() + timeout_s
        with self._lock:
            self._closed = True
            loops = [*self._retired, *([self._loop] if self._loop else [])]
        for loop in loops:
            loop.post(_Loop.wind_up)
        for loop in loops:
            loop.join(end - time.monotonic())

    async def _turn_lane(self, loop: _Loop, lane: Hashable, handler: Handler) -> None:
        waiting = self._lanes[lane]
        while True:
            for _ in range(_LANE_BATCH):
                if not waiting:
                    break
                await loop.serve(handler, waiting.popleft())
            with self._lock:
                if not waiting:
                    del self._lanes[lane]
                    break
            await asyncio.sleep(0)
        loop.ended()

    def _of_now(self) -> _Loop:
        if self._loop is None:
            self._loop = _Loop(self)
        return self._loop

    def _is_late(self, loop: _Loop, now: float, blocked_s: float) -> bool:
        if blocked_s > self._push_patience_s:
            return True
        deadlines = [call.deadline for call in loop.tasks.copy()]
        return any(deadline is not None and deadline < now for deadline in deadlines)

    def _replace(self, blocked: _Loop, blocked_s: float) -> None:
        with self._lock:
            if self._closed or len(self._retired) >= _RETIRED_MAX:
                return
            self._loop = _Loop(self)
            self._retired.append(blocked)
            for job in blocked.retire():
                self._loop.post(job)
        _logger.warning("an async handler has blocked its event loop for %.1f s", blocked_s)


class _Loop:
    """One event loop and its thread."""

    def __init__(self, owner: Coroutines) -> None:
        self.tasks: dict[Call, asyncio.Task[None]] = {}
        self._owner = owner
        self._inbox: deque[_Job] = deque()
        self._awake = False
        self._asked_at: float | None = None
        self._begun = 0
        self._sweeps = False
        self._interrupted: set[Call] = set()
        self._ends_idle = False
        self._over = False
        self._loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._turn, name="zbus-handler-loop", daemon=True)
        try:
            self.thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    # -- from any thread -------------------------------------------------------------------------

    def post(self, job: _Job) -> None:
        """Have this done on the loop's thread, soon."""
        self._inbox.append(job)
        if not self._awake:
            self._awake = True
            self._wake(self._hear)

    def blocked_s(self, now: float) -> float:
        """For how long the loop has not answered; asks it anew where it has."""
        asked_at = self._asked_at
        if asked_at is not None:
            return now - asked_at
        if self.tasks or self._inbox:
            self._asked_at = now
            self._wake(self._answer)
        return 0.0

    def retire(self) -> list[_Job]:
        """End with the last of what has begun; gives back what has not."""
        self._ends_idle = True
        self._wake(self._end_if_idle)
        return list(self._jobs())

    def join(self, timeout_s: float) -> None:
        """Wait until the thread has ended, with force at the end of the time."""
        if self.thread is threading.current_thread():
            return
        self.thread.join(max(timeout_s, 0.0))
        if self.thread.is_alive():
            self._wake(self._end)
            self.thread.join(_ENDING_S)

    def _wake(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            _logger.debug("the event loop has ended")

    # -- on the loop's thread ----------------------------------------------------------------------

    def begin(self, coroutine: Any) -> None:
        self._begun += 1
        self._loop.create_task(coroutine)

    async def request(self, handler: Handler, call: Call) -> None:
        """Run the handler of one request, and count it."""
        await self.serve(handler, call)
        self.ended()

    async def serve(self, handler: Handler, call: Call) -> None:
        """Run the handler of one call to its end."""
        owner = self._owner
        task = asyncio.current_task()
        assert task is not None
        self.tasks[call] = task
        if not self._sweeps:
            self._sweeps = True
            self._loop.call_later(_SWEEP_S, self._sweep)
        try:
            result = await perform_async(handler, call, owner.clock)
        except BaseException as error:  # noqa: BLE001 - a fault of ours must not lose the call
            result = InternalError(f"running a handler failed: {type(error).__name__}")
        del self.tasks[call]
        self._interrupted.discard(call)
        owner.finish(call, result)

    def ended(self) -> None:
        """What ``begin`` began has come to its end."""
        self._begun -= 1
        self._end_if_idle()

    def _sweep(self) -> None:
        now = self._owner.clock()
        for call in self.tasks:
            if call.deadline is not None and call.deadline <= now:
                self.interrupt(call)
        self._sweeps = bool(self.tasks)
        if self._sweeps:
            self._loop.call_later(_SWEEP_S, self._sweep)

    def interrupt(self, call: Call) -> None:
        """Once only: what a handler does to clean up is left in peace."""
        task = self.tasks.get(call)
        if task is not None and call not in self._interrupted:
            self._interrupted.add(call)
            task.cancel()

    def wind_up(self) -> None:
        """Interrupt everything, and end once it has ended."""
        self._ends_idle = True
        for call in self.tasks:
            self.interrupt(call)
        self._end_if_idle()

    def _hear(self) -> None:
        self._awake = False
        for job in self._jobs():
            job(self)

    def _jobs(self) -> Iterator[_Job]:
        with suppress(IndexError):
            while True:
                yield self._inbox.popleft()

    def _answer(self) -> None:
        self._asked_at = None

    def _end_if_idle(self) -> None:
        if self._ends_idle and not self._begun and not self._over:
            self._end()

    def _end(self) -> None:
        self._over = True
        self._loop.stop()

    def _turn(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._over:
            # A handler may stop the loop, and SystemExit in a task of its own comes through.
            try:
                self._loop.run_forever()
            except BaseException:
                _logger.exception("a task that a handler began has raised")
        try:
            self._interrupt_rest()
        except BaseException:
            _logger.exception("a task that a handler began has raised at its end")
        self._loop.close()

    def _interrupt_rest(self) -> None:
        rest = asyncio.all_tasks(self._loop)
        for task in rest:
            task.cancel()
        if rest:
            self._loop.run_until_complete(asyncio.wait(rest, timeout=_ENDING_S))


_Job: TypeAlias = Callable[[_Loop], object]
