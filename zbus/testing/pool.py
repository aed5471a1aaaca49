"""Handlers under virtual time: the executor that the simulator gives its peers.

Rules of this room:

* Real handlers run, through the dispatcher's own ``perform``. What they do happens at the instant
  at which they begin; how long that took is drawn from the seed, and their result comes then.
* As many handlers of requests run at once as there are hands; the others wait their turn, as in
  a pool of threads. The pushes of a lane run one at a time, in order, and need no hand.
* A handler may hang: it never returns, unless somebody lets go of all that hang.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from zbus.errors import NoHandler
from zbus.peer.call import Call, Result
from zbus.peer.dispatcher import Dispatcher, Handler, perform, perform_async
from zbus.protocol.effect import LaneKey
from zbus.protocol.message import Key
from zbus.testing.history import Begun, History, Life
from zbus.testing.stage import Actor

__all__ = ["QUICK", "Pace", "SimulatedPool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long handlers take, and how many run at once."""

    least_s: float = 0.0
    most_s: float = 0.0
    hang_probability: float = 0.0
    hands: int = 64


QUICK = Pace()
"""Handlers take no time."""


class _Job(NamedTuple):
    """A call, and what it is for: a request, or a push with its number in its lane."""

    call: Call
    key: Key | LaneKey
    sequence: int


@dataclass(slots=True, eq=False)
class _Lane:
    """Pushes that wait for those before them."""

    waiting: deque[_Job] = field(default_factory=deque)
    busy: bool = False


class SimulatedPool:
    """An ``Executor``."""

    def __init__(self, actor: Actor, dispatcher: Dispatcher, history: History, pace: Pace) -> None:
        self._actor = actor
        self._dispatcher = dispatcher
        self._history = history
        self.pace = pace
        self._life = Life(actor.name, actor.life)
        self._chance = actor.stage.chance(f"handlers/{actor.name}/{actor.life}")
        self._waiting: deque[_Job] = deque()
        self._lanes: dict[Hashable, _Lane] = {}
        self._hanging: list[Callable[[], None]] = []
        self._hangs: set[str] = set()
        self._running = 0
        self._busy = 0

    @property
    def unfinished(self) -> int:
        """How many calls have not ended."""
        lanes = sum(len(lane.waiting) for lane in self._lanes.values())
        return self._running + len(self._waiting) + lanes

    def submit(self, call: Call) -> None:
        """See ``Executor``."""
        self._waiting.append(_Job(call, Key(call.source, call.epoch, call.number), 0))
        self._begin_next()

    def submit_lane(self, lane: Hashable, calls: Sequence[Call]) -> None:
        """See ``Executor``."""
        waiting = self._lanes.setdefault(lane, _Lane()).waiting
        for call in calls:
            key = LaneKey(call.source, call.epoch, call.topic)
            waiting.append(_Job(call, key, call.number))
        self._next_of(lane)

    def cancel(self, call: Call) -> None:
        """See ``Executor``. A function cannot be interrupted; it may look."""

    def close(self, drain_s: float) -> int:
        """See ``Executor``. Nothing waits in a simulation."""
        return self.unfinished

    def hang(self, topic: str) -> None:
        """From now on the handlers of this topic never return, until all are let go."""
        self._hangs.add(topic)

    def let_go(self) -> None:
        """All that hang return now, and from now on handlers are quick."""
        self.pace = Pace(hands=self.pace.hands)
        self._hangs.clear()
        hanging, self._hanging = self._hanging, []
        for finish in hanging:
            self._actor.later(0.0, finish)

    def let_one_go(self) -> bool:
        """One that hangs returns now, the first; whether there was one."""
        if not self._hanging:
            return False
        self._actor.later(0.0, self._hanging.pop(0))
        return True

    def _begin_next(self) -> None:
        while self._waiting and self._busy < self.pace.hands:
            self._busy += 1
            self._begin(self._waiting.popleft(), self._free_a_hand)

    def _free_a_hand(self) -> None:
        self._busy -= 1
        self._begin_next()

    def _next_of(self, key: Hashable) -> None:
        lane = self._lanes[key]
        if lane.busy or not lane.waiting:
            return
        lane.busy = True

        def go_on() -> None:
            lane.busy = False
            self._next_of(key)

        self._begin(lane.waiting.popleft(), go_on)

    def _begin(self, job: _Job, then: Callable[[], None]) -> None:
        self._running += 1
        begun, result = self._perform(job)

        def finish() -> None:
            self._running -= 1
            if begun is not None:
                begun.result = result
                begun.ended_at = self._actor.stage.clock.now
            job.call.finish(result)
            then()

        if begun is None:
            self._actor.later(0.0, finish)  # not here: a thousand of them would be as deep
        elif job.call.topic in self._hangs or self._chance.random() < self.pace.hang_probability:
            self._hanging.append(finish)
        else:
            took_s = self._chance.uniform(self.pace.least_s, self.pace.most_s)
            self._actor.later(took_s, finish)

    def _perform(self, job: _Job) -> tuple[Begun | None, Result]:
        begun: list[Begun] = []
        call = job.call
        handler = self._dispatcher.handler(call.topic)
        if handler is None:
            return None, NoHandler(f"no handler for {call.topic!r} here")

        def function(*arguments: Any) -> Any:
            begun.append(self._note(job))
            return handler.function(*arguments)

        watched = Handler(function, handler.takes_request, handler.is_async)
        clock = self._actor.clock.now
        result = (
            _awaited(watched, call, clock) if handler.is_async else perform(watched, call, clock)
        )
        return (begun[0] if begun else None), result

    def _note(self, job: _Job) -> Begun:
        call, actor = job.call, self._actor
        begun = Begun(self._life, actor.stage.clock.now, call.body, call.frames)
        if isinstance(job.key, LaneKey):
            self._history.took(job.key, job.sequence, begun)
        else:
            assert call.deadline is not None
            begun.left_s = call.deadline - actor.now
            self._history.began(job.key, begun)
        return begun


def _awaited(handler: Handler, call: Call, clock: Callable[[], float]) -> Result:
    """Runs a coroutine function that awaits nothing but what is ready."""
    running = perform_async(handler, call, clock)
    try:
        running.send(None)
    except StopIteration as ended:
        result: Result = ended.value
        return result
    running.close()
    raise NotImplementedError(f"the handler of {call.topic!r} waits for an event loop")
