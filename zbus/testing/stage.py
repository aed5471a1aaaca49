"""Where simulated processes live: one clock, one network, and whose turn it is.

Rules of this room:

* What happens next is what is due first: a message in the network, a planned event, or the turn
  of an actor. Actors that are due at one instant turn in the order in which they came on stage.
* A run is bounded by steps and not by time alone: processes that turn for ever while no time
  passes, or that wake for nothing, are a failure with a name, ``HotLoop``.
* All chance comes from the seed, by way of ``Stage.chance``.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from zbus.testing.clock import ClockView, VirtualClock
from zbus.testing.fabric import MemoryFabric
from zbus.testing.faults import Faults
from zbus.testing.network import MemoryNetwork
from zbus.testing.timeline import Timeline

__all__ = ["Actor", "Disturbance", "HotLoop", "Stage"]

_AT_ONCE_MAX = 20_000
"""Turns that may follow each other without time passing."""
_IDLE_MAX = 10_000
"""Turns in one second of one actor that nothing came for."""
_SLICE_S = 0.05
"""A stopped process is stopped for so long at a time, as its end is not known."""
_WAKES_FIRST_S = 0.01
"""A process that goes on runs so long before its sockets do: ZeroMQ's threads were stopped
as well, so what waited in them is not there yet."""
_DRIFT = 1e-4
"""How much faster or slower than true time a process's clock may run."""
_YEARS_10_S = 315_360_000.0


class HotLoop(AssertionError):
    """Processes run without end and nothing comes of it."""


@dataclass(slots=True, eq=False)
class Disturbance:
    """Something that was done to a process or, for a cut, to two; in true time."""

    kind: str
    who: tuple[str, ...]
    since: float
    until: float = math.inf

    @property
    def ended(self) -> bool:
        return self.until < math.inf

    def overlap_s(self, since: float, until: float) -> float:
        """How much of it lies between two true times."""
        return max(0.0, min(self.until, until) - max(self.since, since))


class Stage:
    """The clock, the network, and the actors."""

    def __init__(self, seed: int, faults: Faults, *, traced: bool = False) -> None:
        self.seed = seed
        self.clock = VirtualClock()
        self.timeline = Timeline(self.clock)
        self.fabric = MemoryFabric(self.chance("network"), self.clock, faults, traced=traced)
        self.actors: dict[str, Actor] = {}
        self.disturbances: list[Disturbance] = []
        self.turns = 0
        self._clocks = self.chance("clocks")
        self._at_once = 0

    def chance(self, what: str) -> random.Random:
        """A source of randomness of its own for each purpose, so that none disturbs another."""
        return random.Random(f"{self.seed}/{what}")

    def new_clock(self) -> ClockView:
        """The monotonic clock of another machine: just started or up for ten years, and a little
        fast or slow (P17)."""
        offset_s = self._clocks.choice([0.0, 0.001, 1e4, _YEARS_10_S])
        return self.clock.view(offset_s, 1.0 + self._clocks.uniform(-_DRIFT, _DRIFT))

    def step(self, until: float = math.inf) -> bool:
        """Let the next thing happen, if there is one until then; whether there was."""
        at = self._next_at()
        if at > until or at == math.inf:
            if until < math.inf:
                self.fabric.advance(until)
            return False
        self._bound(at)
        for name in self.fabric.advance(at):
            actor = self.actors.get(name)
            if actor is not None:
                actor.poke()
        self.timeline.advance(at)
        for actor in list(self.actors.values()):
            if actor.due <= at:
                actor.turn()
        return True

    def pass_time(self, seconds: float) -> None:
        """Let everything happen for so long."""
        until = self.clock.now + seconds
        while self.step(until):
            pass

    def disturb(self, kind: str, *who: str) -> Disturbance:
        """Something is done to these processes, until its ``until``."""
        disturbance = Disturbance(kind, who, self.clock.now)
        self.disturbances.append(disturbance)
        return disturbance

    def cut(self, one: str, other: str, *, both_ways: bool = True) -> None:
        """Hold what goes from one process to the other, and by default back."""
        self.disturb("cut", one, other)
        self.fabric.cut(one, other, both_ways=both_ways)

    def heal(self) -> None:
        """End all cuts."""
        for disturbance in self.disturbances:
            if disturbance.kind == "cut":
                disturbance.until = min(disturbance.until, self.clock.now)
        self.fabric.heal()

    def _next_at(self) -> float:
        at = min([actor.due for actor in self.actors.values()], default=math.inf)
        for event_at in (self.fabric.next_at(), self.timeline.next_at()):
            if event_at is not None and event_at < at:
                at = event_at
        return max(at, self.clock.now)

    def _bound(self, at: float) -> None:
        self.turns += 1
        self._at_once = self._at_once + 1 if at <= self.clock.now else 0
        if self._at_once > _AT_ONCE_MAX:
            due = [name for name, actor in self.actors.items() if actor.due <= at]
            raise HotLoop(f"{self._at_once} turns without time passing, of {due}")


class Actor(ABC):
    """A simulated process: it lives, dies, is stopped and continued, and lives again.

    ``due`` is the true time of its next turn. Each life has a network of its own.
    """

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage = stage
        self.name = name
        self.clock = stage.new_clock()
        self.network = MemoryNetwork(stage.fabric, name)
        self.life = 0
        self.is_alive = False
        self.due = math.inf
        self._down: Disturbance | None = None
        self._stop: Disturbance | None = None
        self._to_continue = False
        self._held: list[Callable[[], None]] = []
        self._idle = 0
        self._idle_since = 0.0
        self._poked = False
        stage.actors[name] = self

    # -- what a kind of process is -----------------------------------------------------------

    @abstractmethod
    def on_begin(self, now: float) -> None:
        """A life begins."""

    @abstractmethod
    def on_turn(self, now: float) -> bool:
        """One turn of its loop; whether another is due at once."""

    @abstractmethod
    def wake_at(self, now: float) -> float | None:
        """When the next turn is due, on its own clock, if nothing happens before."""

    def is_readable(self) -> bool:
        """Whether it has something to read that it will read."""
        return self.network.readable()

    # -- its life ----------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """What this process's monotonic clock shows."""
        return self.clock.now()

    @property
    def is_stopped(self) -> bool:
        return self._stop is not None

    @property
    def is_running(self) -> bool:
        """Whether it lives and is not stopped."""
        return self.is_alive and self._stop is None

    def begin(self) -> None:
        """Start, for the first time or again."""
        assert not self.is_alive, f"{self.name} lives"
        self.life += 1
        self.is_alive = True
        self.network = MemoryNetwork(self.stage.fabric, self.name)
        if self._down is not None:
            self._down.until = self.stage.clock.now
        self.on_begin(self.now)
        self.poke()

    def crash(self) -> None:
        """Kill -9."""
        self.end("crash")

    def restart(self) -> None:
        """Kill it, if it lives, and start it again."""
        self.crash()
        self.begin()

    def end(self, kind: str) -> None:
        """The process is no more: its sockets vanish, and all it knew. ``kind`` says why."""
        if not self.is_alive:
            return
        self._end_stop()
        self._down = self.stage.disturb(kind, self.name)
        self.is_alive = False
        self.due = math.inf
        self._held.clear()
        self.stage.fabric.crash(self.name)

    def stop(self) -> None:
        """SIGSTOP: it does nothing at all until it is continued."""
        if self.is_running:
            self._stop = self.stage.disturb("stop", self.name)
            self._to_continue = False
            self.due = math.inf
            self._stay_stopped(self.life)

    def cont(self) -> None:
        """SIGCONT. It goes on after at most 0.05 s."""
        self._to_continue = True

    def _stay_stopped(self, life: int) -> None:
        if not self.is_alive or self.life != life or self._stop is None:
            return
        if self._to_continue:
            self._end_stop()
            return
        until = self.stage.clock.now + _SLICE_S
        self.stage.fabric.stall(self.name, until + _WAKES_FIRST_S)
        self.stage.timeline.plan(until, lambda: self._stay_stopped(life))

    def _end_stop(self) -> None:
        if self._stop is not None:
            self._stop.until = self.stage.clock.now
            self._stop = None
            held, self._held = self._held, []
            for event in held:
                event()
            self.poke()

    # -- its turns ---------------------------------------------------------------------------

    def poke(self) -> None:
        """It has something to look at."""
        if self.is_running:
            self._poked = True
            self.due = self.stage.clock.now

    def later(self, seconds: float, event: Callable[[], None]) -> None:
        """Do this after so long on its clock, if this life lasts; while it is stopped, not."""
        life = self.life

        def happen() -> None:
            if self.is_alive and self.life == life:
                if self._stop is not None:
                    self._held.append(happen)
                    return
                event()
                self.poke()

        self.stage.timeline.plan(self.clock.instant(self.now + seconds), happen)

    def turn(self) -> None:
        """Turn once, and find out when it is due next."""
        self._bound_idling()
        now = self.now
        more = self.on_turn(now)
        if not self.is_alive:
            return
        if more or self.is_readable():
            self.poke()
            return
        at = self.wake_at(now)
        self.due = math.inf if at is None else self.clock.instant(at)

    def _bound_idling(self) -> None:
        clock = self.stage.clock.now
        if clock - self._idle_since >= 1.0:
            self._idle, self._idle_since = 0, clock
        self._idle += not self._poked
        self._poked = False
        if self._idle > _IDLE_MAX:
            raise HotLoop(f"{self.name} woke {self._idle} times in a second, for nothing")
