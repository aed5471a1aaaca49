"""The pool that runs a peer's handlers, and stays whole whatever they do (promise P12).

Rules:

* ``finish`` is called exactly once for every call, by whoever removes the call from ``_open``:
  removing from a dict is atomic.
* A worker that is still at a request after its deadline, or at a push after ``push_patience_s``,
  is *written off*: another thread takes its place within half a second. The handler goes on, its
  late result is handed over all the same, and then its thread ends. Whoever removes the call
  from ``_running`` decides which of the two it is.
* There are at most ``stuck_max`` threads written off. Beyond them workers are not replaced, and
  once all of them are late, requests are refused as ``Overloaded``, and have not run.
* Pushes run lane by lane, a slice at a time, so that a long queue costs few hand-offs. They have
  one worker less than there are, so that they never keep all requests waiting. A lane whose
  handler is stuck stays stuck, because its order would be lost, and no other lane does.
* Async handlers run in ``peer.coroutines``; quick ones (``peer.pace``) mostly in ``peer.quick``,
  while a worker is free: its thread takes the place of a worker, should it not be quick after all.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from zbus.errors import (
    Cancelled,
    Draining,
    Executed,
    InternalError,
    NoHandler,
    Overloaded,
    ZbusError,
)
from zbus.peer.call import Call, Result
from zbus.peer.coroutines import Coroutines
from zbus.peer.crew import Hand, Mark, Task, new_worker
from zbus.peer.dispatcher import Clock, Dispatcher, Handler, perform
from zbus.peer.pace import Pace
from zbus.peer.rota import Lane, Rota

__all__ = ["HANDLERS", "HandlerPool"]

HANDLERS = 8
"""Sync handlers that run at once, where nothing else is said."""
_PUSH_PATIENCE_S = 30.0
_STUCK_PER_WORKER = 4
_CHECK_S = 0.2  # how often late handlers are looked for while calls are open
_GRACE_S = 0.2  # a handler may end a little late without losing its thread
_SLICE_S = 0.005
_SLICE_PUSHES = 256
_RETRY_AFTER_S = 1.0
_POLL_S = 0.005
_ENDING_S = 0.5  # what close() adds to its drain for threads that end when they are asked to
_numbers = itertools.count(1)
_CLOSED = "this peer closed before the handler ended"
_logger = logging.getLogger("zbus.handler")


class HandlerPool:
    """An ``Executor`` over threads and an event loop."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        size: int = HANDLERS,
        clock: Clock = time.monotonic,
        push_patience_s: float = _PUSH_PATIENCE_S,
        stuck_max: int | None = None,
    ) -> None:
        self.size = size
        self.stuck_max = _STUCK_PER_WORKER * size if stuck_max is None else stuck_max
        self._dispatcher = dispatcher
        self._clock = clock
        self._push_patience_s = push_patience_s
        self._queue: SimpleQueue[Task] = SimpleQueue()
        self._rota = Rota(lambda: self._queue.put(Mark.TURN), max(1, size - 1))
        self._coroutines = Coroutines(self._finish, clock, push_patience_s)
        self._open: dict[Call, bool] = {}
        self._running: dict[Call, tuple[float, Hand]] = {}
        self._pace = Pace()
        self._lock = threading.Lock()
        self._workers: set[Hand] = set()
        self._stuck: set[Hand] = set()
        self._hired = 0
        self._watcher: threading.Thread | None = None
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._asleep = False
        self._exhausted = False
        self._closing = False
        self._ended = False

    # -- the executor ----------------------------------------------------------------------------

    def submit(self, call: Call) -> None:
        """Run the handler of one request."""
        handler = self._dispatcher.handler(call.topic)
        self._open[call] = True
        if handler is None or self._closing or (self._exhausted and not handler.is_async):
            self._finish(call, self._refusal(handler, call))
            return
        try:
            if handler.is_async:
                self._coroutines.submit(handler, call)
            else:
                self._queue.put((handler, call))
                self._hire()
        except (OSError, RuntimeError):  # No thread, or no descriptor, is to be had.
            self._finish(call, _overloaded())
        self._attend((call,))

    def submit_lane(self, lane: Hashable, calls: Sequence[Call]) -> None:
        """Run the handler of these pushes of one topic, in order."""
        if not calls:
            return
        handler = self._dispatcher.handler(calls[0].topic)
        self._open.update(dict.fromkeys(calls, True))
        if handler is None or self._closing:
            for call in calls:
                self._finish(call, self._refusal(handler, call))
            return
        try:
            if handler.is_async:
                self._coroutines.submit_lane(lane, handler, calls)
            else:
                self._rota.add(lane, handler, calls)
                self._hire()
        except (OSError, RuntimeError):
            for call in calls:
                self._finish(call, _overloaded())
        self._attend(calls)

    def is_quick(self, topic: str) -> bool:
        """Whether the handler of this topic has been quick for long enough to rely on it, and a
        worker is free, so that it makes no more handlers at once than there may be."""
        return self._pace.is_quick(topic) and len(self._open) < self.size

    def run_here(self, call: Call) -> None:
        """Run a request's handler in this thread, which is none of the pool's."""
        handler = self._dispatcher.handler(call.topic)
        if handler is None or handler.is_async or self._closing:
            self.submit(call)
            return
        self._open[call] = True
        began = self._clock()
        self._finish(call, self._perform(handler, call))
        self._pace.note(call.topic, self._clock() - began)
        if self._running and self._running.pop(call, None) is not None:
            with self._lock:
                self._hired -= 1
            if not self._queue.empty():
                self._hire()

    def adopt(self, call: Call) -> None:
        """``run_here`` is at this call for long: its thread counts as a worker until it returns,
        and is written off like one."""
        until = self._clock() + self._push_patience_s if call.deadline is None else call.deadline
        with self._lock:
            if call not in self._open:
                return
            self._running[call] = (until, Hand())
            self._hired += 1
            if self._hired > self.size:
                self._queue.put(Mark.END)
        self._attend((call,))

    def cancel(self, call: Call) -> None:
        """Show the handler that its caller gave up, and interrupt an async one."""
        call.cancelled = True
        self._coroutines.cancel(call)

    def close(self, drain_s: float) -> int:
        """Take nothing new, wait for what is open, then give the rest up and end the threads.

        Returns how many calls were left when the time was up. They are shown ``cancelled``, and
        end as ``Cancelled``. Not to be called by a handler, which would wait for itself.
        """
        self._closing = True
        end = time.monotonic() + drain_s
        while self._open and time.monotonic() < end:
            time.sleep(_POLL_S)
        left = self._open.copy()
        self._ended = True
        for call in left:
            call.cancelled = True
        self._turn_away(_not_begun)
        for call in self._rota.clear():
            self._finish(call, _not_begun())
        self._coroutines.close(_ENDING_S)
        self._abandon(self._open.copy())
        self._join()
        return len(left)

    def _refusal(self, handler: Handler | None, call: Call) -> ZbusError:
        if self._closing:
            return Draining("this peer is closing and takes no new work")
        if handler is None:
            return NoHandler(f"there is no handler for {call.topic!r} here")
        return _overloaded()

    def _attend(self, calls: Iterable[Call]) -> None:
        """See that somebody looks after what was just put somewhere."""
        if self._asleep:
            self._asleep = False
            self._bell.put(None)
        elif self._watcher is None:
            self._start_watch()
        if self._ended:
            self._abandon(calls)

    def _finish(self, call: Call, result: Result) -> None:
        if not self._open.pop(call, False):
            return
        try:
            call.finish(result)
        except Exception:
            _logger.exception("a call to %s could not be finished", call.topic)

    def _abandon(self, calls: Iterable[Call]) -> None:
        for call in calls:
            self._finish(call, Cancelled(_CLOSED, executed=Executed.MAYBE))

    def _turn_away(self, refusal: Callable[[], ZbusError]) -> None:
        """End all requests that no worker has taken."""
        marks: list[Task] = []
        while not self._queue.empty():
            with suppress(Empty):
                task = self._queue.get_nowait()
                if isinstance(task, tuple):
                    self._finish(task[1], refusal())
                else:
                    marks.append(task)
        for mark in marks:
            self._queue.put(mark)

    # -- workers ---------------------------------------------------------------------------------

    def _hire(self) -> None:
        if self._hired >= self.size:
            return
        with self._lock:
            if self._hired >= self.size or self._ended:
                return
            self._hired += 1
            hired = new_worker(f"zbus-handler-{next(_numbers)}", self._work)
            self._workers.add(hired)
            try:
                hired.thread.start()
            except RuntimeError:
                self._workers.discard(hired)
                self._hired -= 1
                if not self._hired:
                    raise

    def _work(self, worker: Hand) -> None:
        stays = True
        while stays:
            task = self._queue.get()
            if task is Mark.END:
                break
            if isinstance(task, tuple):
                handler, call = task
                until = call.deadline
                if until is None:
                    until = self._clock() + self._push_patience_s
                stays = self._run(worker, handler, call, until)
            else:
                stays = self._take_turn(worker)
        with self._lock:
            if worker in self._workers:
                self._hired -= 1
            self._workers.discard(worker)
            self._stuck.discard(worker)

    def _run(self, worker: Hand, handler: Handler, call: Call, until: float) -> bool:
        """Whether the worker has not been written off meanwhile."""
        if call not in self._open:
            return True
        self._running[call] = (until, worker)
        began = self._clock()
        result = self._perform(handler, call)
        if call.deadline is not None:
            self._pace.note(call.topic, self._clock() - began)
        stays = self._running.pop(call, None) is not None
        self._finish(call, result)
        return stays

    def _perform(self, handler: Handler, call: Call) -> Result:
        try:
            return perform(handler, call, self._clock)
        except BaseException as error:  # noqa: BLE001 - a fault of ours must not lose the call
            return InternalError(f"running a handler failed: {type(error).__name__}")

    def _take_turn(self, worker: Hand) -> bool:
        lane = self._rota.take()
        if lane is None:
            return True
        worker.has_turn = True
        stays = self._run_slice(worker, lane)
        if stays:
            worker.has_turn = False  # Else the watch may be about to look at it.
        self._rota.give_back(lane, turn=stays)
        return stays

    def _run_slice(self, worker: Hand, lane: Lane) -> bool:
        now = self._clock()
        end = now + _SLICE_S
        for _ in range(_SLICE_PUSHES):
            try:
                call = lane.waiting.popleft()
            except IndexError:
                break
            if not self._run(worker, lane.handler, call, now + self._push_patience_s):
                return False
            now = self._clock()
            if now >= end:
                break
        return True

    def _join(self) -> None:
        with self._lock:
            threads = [worker.thread for worker in self._workers]
            for _ in threads:
                self._queue.put(Mark.END)
            if self._watcher is not None:
                threads.append(self._watcher)
        self._bell.put(None)
        end = time.monotonic() + _ENDING_S
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(end - time.monotonic(), 0.0))

    # -- the watch -------------------------------------------------------------------------------

    def _start_watch(self) -> None:
        with self._lock:
            if self._watcher is None and not self._ended:
                watcher = threading.Thread(
                    target=self._watch, name="zbus-handler-watch", daemon=True
                )
                with suppress(RuntimeError):  # The next call tries again.
                    watcher.start()
                    self._watcher = watcher

    def _watch(self) -> None:
        while not self._ended:
            with suppress(Empty):
                self._bell.get(timeout=_CHECK_S)
            try:
                self._inspect(self._clock())
            except (OSError, RuntimeError):
                _logger.exception("a handler that does not end could not be replaced")
            self._asleep = True
            if self._open or self._ended:
                self._asleep = False
            else:
                self._bell.get()

    def _inspect(self, now: float) -> None:
        late = 0
        for call, (until, worker) in self._running.copy().items():
            if until + _GRACE_S > now:
                continue
            if len(self._stuck) >= self.stuck_max:
                late += 1
            elif self._running.pop(call, None) is not None:
                self._write_off(worker, call)
        self._exhausted = late >= self.size
        if self._exhausted:
            self._turn_away(_overloaded)
        self._coroutines.inspect(now)

    def _write_off(self, worker: Hand, call: Call) -> None:
        with self._lock:
            self._workers.discard(worker)
            self._stuck.add(worker)
            self._hired -= 1
        if worker.has_turn:
            self._rota.give_turn_back()
        self._hire()
        _logger.warning(
            "the handler of %s does not end; its thread is replaced (%d such of at most %d)",
            call.topic,
            len(self._stuck),
            self.stuck_max,
        )


def _not_begun() -> ZbusError:
    return Cancelled(_CLOSED, executed=Executed.NO)


def _overloaded() -> ZbusError:
    return Overloaded("every handler thread is stuck", retry_after_s=_RETRY_AFTER_S)
