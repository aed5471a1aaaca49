"""A simulated network that breaks ZeroMQ's promises no more and no less than ZeroMQ does.

What it keeps, as ``transport.port`` has it:

* Whole messages, in order, per connection, in each direction on its own.
* When a connection ends, what was under way arrives up to some message and vanishes from there;
  what had arrived stays. Each side learns of the end at its own time, and until then what it
  sends is accepted and vanishes.
* ``FULL`` at the mark, and while a DEALER or PUSH has no connection; ``GONE`` for a routing id
  that a ROUTER does not know, or no longer.
* A DEALER or PUSH connects again by itself, and gets another routing id.

Rules of this room:

* All chance comes from one ``random.Random``, all time from one ``VirtualClock``, and nothing is
  iterated in an order that is not the same next time: one seed, one ``trace``.
* Chance only delays messages and ends connections, as far as ``Faults`` says. What happens to
  whole processes (``cut``, ``stall``, ``crash``) somebody asks for.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from zbus.errors import AlreadyRunning
from zbus.testing.clock import VirtualClock
from zbus.testing.faults import PERFECT, Faults
from zbus.testing.plug import End, Kind, Letter, Plug, Traced
from zbus.testing.timeline import Timeline
from zbus.transport.port import Frame, Received, Sent

__all__ = ["MemoryFabric"]


class MemoryFabric:
    """The network that the processes of one simulation share.

    Whoever drives the simulation asks ``next_at``, calls ``advance``, and lets those processes
    run that it names. ``traced=False`` spares long runs the memory of their trace.
    """

    def __init__(
        self,
        chance: random.Random,
        clock: VirtualClock,
        faults: Faults = PERFECT,
        *,
        traced: bool = True,
    ) -> None:
        self.clock = clock
        self.faults = faults
        self.trace: list[Traced] = []
        self.happened: Counter[str] = Counter()
        """How often each kind of thing happened: a run without any was no test of it."""
        self._traced = traced
        self._chance = chance
        self._timeline = Timeline(clock)
        self._plugs: list[Plug] = []
        self._bound: dict[str, Plug] = {}
        self._routes = chance.getrandbits(16)
        self._ports = 40_000
        self._cuts: dict[tuple[str, str], float] = {}
        self._stalls: dict[str, float] = {}
        self._stirred: dict[str, None] = {}

    # -- time ------------------------------------------------------------------------------

    def next_at(self) -> float | None:
        """When something happens in the network next, if nobody does anything."""
        return self._timeline.next_at()

    def advance(self, now: float) -> list[str]:
        """Let it be ``now``; the names of the processes that have something to look at."""
        self._timeline.advance(now)
        stirred, self._stirred = list(self._stirred), {}
        return stirred

    def stir(self, owner: str) -> None:
        """Let ``advance`` name this process."""
        self._stirred[owner] = None

    def _in(self, seconds: float, event: Callable[[], None]) -> None:
        self._timeline.plan(self.clock.now + seconds, event)

    def _note(self, what: str, who: str, size: int = 0) -> None:
        self.happened[what] += 1
        if self._traced:
            self.trace.append(Traced(self.clock.now, what, who, size))

    def _up_to(self, most: float, least: float = 0.0) -> float:
        return least if most <= least else self._chance.uniform(least, most)

    def _perhaps(self, probability: float) -> bool:
        return probability > 0.0 and self._chance.random() < probability

    # -- plugs, for MemoryPort -------------------------------------------------------------

    def plug_in(self, owner: str, kind: Kind, endpoints: Sequence[str]) -> Plug:
        """A new socket, bound or connecting."""
        plug = Plug(owner, kind, [self._real(endpoint) for endpoint in endpoints])
        if not plug.connects:
            for endpoint in plug.endpoints:
                if endpoint in self._bound:
                    raise AlreadyRunning(f"cannot bind {endpoint}: somebody listens there")
            self._bound.update(dict.fromkeys(plug.endpoints, plug))
        self._note("open", f"{plug.label} {plug.endpoint}")
        self._plugs.append(plug)
        for other in self._plugs:
            if other.endpoint in plug.endpoints:
                self._connect_soon(other)
        return plug

    def _real(self, endpoint: str) -> str:
        """With a port that nobody has for port 0."""
        if endpoint.startswith("tcp://") and endpoint.endswith(":0"):
            self._ports += 1
            return f"{endpoint[:-1]}{self._ports}"
        return endpoint

    def unplug(self, plug: Plug) -> None:
        """Close a socket: what it had queued may vanish, and its peers learn in their time."""
        if plug.closed:
            return
        plug.closed = True
        self._note("close", plug.label)
        self._plugs.remove(plug)
        for endpoint in plug.endpoints:
            if self._bound.get(endpoint) is plug:
                del self._bound[endpoint]
        for end in list(plug.ends.values()):
            self._break(end)
        plug.ends.clear()
        plug.inbox.clear()

    def send(self, plug: Plug, route: bytes, frames: list[Frame]) -> Sent:
        """Accept a message, or say why not."""
        end = plug.ends.get(route) if plug.kind is Kind.ROUTER else _only(plug)
        if end is None:
            plug.full = plug.connects
            return Sent.FULL if plug.connects and not plug.closed else Sent.GONE
        if not self._has_room(end) or self._perhaps(self.faults.full_probability):
            self._note("full", end.label)
            plug.full = True
            return Sent.FULL
        size = sum(map(len, frames))
        self._note("send", end.label, size)
        if end.broken:
            end.lost += 1
            return Sent.SENT
        fatal = max(map(len, frames), default=0) > self.faults.frame_max_bytes
        fatal = fatal or self._perhaps(self.faults.break_probability)
        end.under_way.append(Letter(self._due(end), frames, size, fatal))
        self._schedule(end)
        return Sent.SENT

    def _due(self, end: End) -> float:
        faults = self.faults
        delay = self._up_to(faults.delay_max_s, faults.delay_min_s)
        if self._perhaps(faults.slow_probability):
            delay += self._up_to(faults.slow_max_s)
        due = self.clock.now + delay
        return max(due, end.under_way[-1].due) if end.under_way else due

    def drain(self, plug: Plug, limit: int) -> list[Received]:
        """Hand over what has arrived, which makes room for more."""
        received: list[Received] = []
        while plug.inbox and len(received) < limit:
            end, frames = plug.inbox.popleft()
            end.undrained -= 1
            if end.undrained == self.faults.receive_mark - 1:
                self._schedule(end.other)
            received.append((end.route if plug.kind is Kind.ROUTER else b"", frames))
        return received

    def has_room(self, plug: Plug) -> bool:
        """Whether a DEALER or PUSH would take a message."""
        end = _only(plug)
        return end is not None and self._has_room(end)

    def _has_room(self, end: End) -> bool:
        return len(end.under_way) + end.lost < self.faults.send_mark

    # -- connections -----------------------------------------------------------------------

    def _connect_soon(self, plug: Plug) -> None:
        if plug.connects and not plug.connecting and self._may_connect(plug):
            plug.connecting = True
            self._in(self._up_to(self.faults.connect_max_s), lambda: self._connect(plug))

    def _may_connect(self, plug: Plug) -> bool:
        bound = self._bound.get(plug.endpoint)
        return (
            bound is not None
            and not plug.ends
            and not plug.closed
            and plug.kind.connects_to(bound.kind)
            and not self._is_held(plug.owner, bound.owner)
            and not self._is_held(bound.owner, plug.owner)
        )

    def _connect(self, plug: Plug) -> None:
        plug.connecting = False
        if not self._may_connect(plug):
            return
        self._routes += 1
        route = b"\0" + self._routes.to_bytes(4, "big")
        near, far = End.pair(plug, self._bound[plug.endpoint], route)
        for end in (near, far):
            end.plug.ends[route] = end
            self.stir(end.plug.owner)
        self._note("connect", near.label)

    def _schedule(self, end: End) -> None:
        """See to it that what is under way from this end arrives, if anything may."""
        if not end.scheduled and end.under_way and not self._is_stuck(end):
            end.scheduled = True
            self._timeline.plan(end.under_way[0].due, lambda: self._arrive(end))

    def _is_stuck(self, end: End) -> bool:
        other = end.other
        return other.undrained >= self.faults.receive_mark or self._is_held(
            end.plug.owner, other.plug.owner
        )

    def _is_held(self, sender: str, receiver: str) -> bool:
        return (
            (sender, receiver) in self._cuts or sender in self._stalls or receiver in self._stalls
        )

    def _arrive(self, end: End) -> None:
        end.scheduled = False
        if not end.under_way or self._is_stuck(end):
            return
        if end.under_way[0].fatal or end.other.plug.closed:
            self._lose(end, keep=0)
            self._break(end)
            return
        letter, other = end.under_way.popleft(), end.other
        self._note("arrive", end.label, letter.size)
        other.undrained += 1
        other.plug.inbox.append((other, letter.frames))
        self.stir(other.plug.owner)
        if end.plug.full:
            self.stir(end.plug.owner)
        self._schedule(end)

    def _break(self, end: End) -> None:
        """The connection ends now. Who learns of it when is a matter of chance."""
        if end.broken:
            return
        self._note("break", end.label)
        for side in (end, end.other):
            side.broken = True
            self._vanish(side)
        for side in (end, end.other):
            if not side.plug.closed:
                self._in(self._notice(), self._learning(side))

    def _vanish(self, end: End) -> None:
        """What is lost of what was under way from this end: all from some message on."""
        pair = (end.plug.owner, end.other.plug.owner)
        if end.other.plug.closed or pair in self._cuts or end.plug.owner in self._stalls:
            self._lose(end, keep=0)
        elif self._perhaps(self.faults.vanish_probability):
            self._lose(end, keep=self._chance.randint(0, len(end.under_way)))

    def _lose(self, end: End, keep: int) -> None:
        lost = len(end.under_way) - keep
        if lost:
            self._note("vanish", end.label, lost)
        for _ in range(lost):
            end.under_way.pop()

    def _notice(self) -> float:
        if self._perhaps(self.faults.half_open_probability):
            return self.faults.half_open_s
        return self._up_to(self.faults.notice_max_s)

    def _learning(self, end: End) -> Callable[[], None]:
        def learn() -> None:
            if end.plug.owner in self._stalls:
                self._timeline.plan(self._stalls[end.plug.owner], learn)
            elif end.other.scheduled and end.other.under_way:  # which arrives before
                self._timeline.plan(end.other.under_way[-1].due, learn)
            else:
                self._forget(end)

        return learn

    def _forget(self, end: End) -> None:
        self._lose(end.other, keep=0)
        if end.plug.ends.pop(end.route, None) is not None:
            self._note("learn", end.label)
            self.stir(end.plug.owner)
            self._connect_soon(end.plug)

    # -- what a test does to it ------------------------------------------------------------

    def cut(self, sender: str, receiver: str, *, both_ways: bool = True) -> None:
        """Hold what is under way from one process to another. Connections between the two end
        if it lasts for ``Faults.cut_breaks_s``, and no new one comes about."""
        pairs = [(sender, receiver), (receiver, sender)] if both_ways else [(sender, receiver)]
        for pair in pairs:
            if pair not in self._cuts:
                self._note("cut", " to ".join(pair))
                self._cuts[pair] = self.clock.now
                self._in(self.faults.cut_breaks_s, self._giving_up(pair, self.clock.now))

    def _giving_up(self, pair: tuple[str, str], since: float) -> Callable[[], None]:
        def give_up() -> None:
            if self._cuts.get(pair) == since:
                self.drop_connections(*pair)

        return give_up

    def heal(self) -> None:
        """End all cuts."""
        self._note("heal", "all", len(self._cuts))
        self._cuts.clear()
        self._release()

    def stall(self, owner: str, until: float) -> None:
        """Hold all that comes to or from a process, as if it were stopped, until then. Not to
        let it run meanwhile is up to who drives the simulation; see ``is_stalled``."""
        if until > max(self.clock.now, self._stalls.get(owner, 0.0)):
            self._note("stall", owner)
            self._stalls[owner] = until
            self._timeline.plan(until, lambda: self._resume(owner))

    def is_stalled(self, owner: str) -> bool:
        return owner in self._stalls

    def _resume(self, owner: str) -> None:
        if self._stalls.get(owner, math.inf) <= self.clock.now:
            self._note("resume", owner)
            del self._stalls[owner]
            self.stir(owner)
            self._release()

    def _release(self) -> None:
        for end in self._ends():
            self._schedule(end)
            self._schedule(end.other)  # which may be that of a closed socket
        for plug in self._plugs:
            self._connect_soon(plug)

    def _ends(self) -> Iterator[End]:
        for plug in list(self._plugs):
            yield from list(plug.ends.values())

    def drop_connections(self, one: str, other: str) -> int:
        """End every connection between two processes; how many there were."""
        count = 0
        for end in self._ends():
            if (end.plug.owner, end.other.plug.owner) == (one, other) and not end.broken:
                self._break(end)
                count += 1
        return count

    def crash(self, owner: str) -> None:
        """Kill a process: its sockets vanish, with what they hold."""
        self._note("crash", owner)
        for plug in [plug for plug in self._plugs if plug.owner == owner]:
            self.unplug(plug)
        self._stalls.pop(owner, None)


def _only(plug: Plug) -> End | None:
    return next(iter(plug.ends.values()), None)
